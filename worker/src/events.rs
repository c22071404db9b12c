//! What the rank tells whoever started it: one JSON object per line on standard output.

use std::io::{self, Write};

use contract::event::WorkerEvent;

/// Writes events; a reader that went away does not stop the training.
pub fn emit(event: &WorkerEvent) {
    let mut line = match serde_json::to_vec(event) {
        Ok(line) => line,
        Err(error) => {
            tracing::error!(%error, "An event could not be written.");
            return;
        }
    };
    line.push(b'\n');
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(&line).and_then(|()| out.flush()) {
        tracing::debug!(%error, "Nobody reads the events.");
    }
}
