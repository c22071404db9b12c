//! A disk that is full or fails does not end a run: what cannot be written is kept and tried again,
//! and people are told once, and again when it is over.

use std::error::Error;
use std::time::{Duration, Instant, SystemTime};

use plan::words::chain;

use super::Session;
use crate::up::event::{Body, Record, UpEvent};
use crate::up::summary::Summary;

/// Events that wait for room; some hours of a run, and the oldest are dropped beyond.
pub(super) const EVENTS_BYTES_MAX: usize = 16 << 20;
/// How often it is tried again.
pub(super) const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Since when the disk takes nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    began: Instant,
    /// The time at which it is tried again.
    pub(super) retry: Instant,
}

impl Session {
    /// Writes down and shows what happened.
    pub(super) fn record(&mut self, body: Body) {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let elapsed = Some(self.begun.elapsed().as_secs_f64());
        let record = Record { at: at.as_secs_f64(), elapsed, body };
        // A Record has a JSON form: its maps have strings for keys.
        let mut line = serde_json::to_vec(&record).unwrap_or_default();
        line.push(b'\n');
        self.events.push(line);
        self.state.apply(&record);
        self.screen.record(&record, &self.state);
        if self.trouble.is_none() {
            self.write_events();
        }
    }

    /// Takes note of the result of a write.
    pub(super) fn note_written(&mut self, written: Result<(), &(dyn Error + 'static)>) {
        let Err(error) = written else { return };
        let now = Instant::now();
        let began = self.trouble.map(|trouble| trouble.began);
        self.trouble = Some(Trouble { began: began.unwrap_or(now), retry: now + RETRY_EVERY });
        if began.is_none() {
            let folder = self.setting.dir.path().display();
            let message = format!(
                "the run's folder {folder} takes nothing more ({}); the run goes on, and what it \
                 tells waits in memory until there is room",
                chain(error)
            );
            self.warn(message);
        }
    }

    /// Tries again what could not be written.
    pub(super) fn write_again(&mut self) {
        let Some(Trouble { began, .. }) = self.trouble else { return };
        if self.write_events() {
            for start in std::mem::take(&mut self.held_back) {
                self.start_when_written(start);
            }
        }
        if !self.held_back.is_empty() || !self.write_events() {
            return;
        }
        self.trouble = None;
        let seconds = began.elapsed().as_secs();
        let lost = match self.events.take_dropped() {
            0 => "nothing was lost".to_owned(),
            lost => format!("{lost} events are missing in it: they were too many to keep"),
        };
        self.warn(format!("the run's folder is written again after {seconds} s; {lost}"));
    }

    /// Writes the events that wait; whether all are written.
    fn write_events(&mut self) -> bool {
        let written = self.events.flush();
        self.note_written(written.as_ref().copied().map_err(|error| error as _));
        written.is_ok()
    }

    /// Writes what a session leaves; what could not be written, in a sentence each.
    pub(super) fn write_last(&mut self, summary: &Summary) -> Vec<String> {
        let mut failed = Vec::new();
        if let Err(error) = self.setting.dir.write_json("summary.json", summary) {
            failed.push(chain(&error));
        }
        if let Err(error) = self.events.flush() {
            failed.push(format!("failed to write the last events to events.jsonl: {error}"));
        }
        failed
    }

    fn warn(&mut self, message: String) {
        self.record(Body::Up(UpEvent::Warning { message }));
    }
}
