//! `heteroloco data prepare`: text to token shards, with a bar.

use std::io::Write as _;

use indicatif::{ProgressBar, ProgressStyle};

use data::{DEFAULT_SHARD_TOKENS, PrepareError, PrepareOptions, PrepareSummary, Progress};

use crate::args::PrepareArgs;
use crate::show;

/// Prepares data; what came of it, in a sentence. Warnings go to standard error.
///
/// # Errors
/// When nothing could be prepared.
pub fn run(args: &PrepareArgs) -> Result<String, PrepareError> {
    let options = PrepareOptions {
        inputs: args.input.clone(),
        tokenizer: args.tokenizer.clone(),
        out: args.out.clone(),
        validation: args.validation,
        max_bytes: args.max_bytes,
        shard_tokens: DEFAULT_SHARD_TOKENS,
        text_field: args.text_field.clone(),
        as_text: args.as_text.clone(),
        allow_passed_over: args.allow_passed_over,
        end_token: args.end_token.clone(),
    };
    let bar = bar();
    let summary = data::prepare(&options, &mut |progress| draw(&bar, progress));
    bar.finish_and_clear();
    let summary = summary?;
    for warning in &summary.warnings {
        // A warning that cannot be shown is no reason to fail.
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
    Ok(sentence(args, &summary))
}

/// Hidden where standard error is no terminal.
fn bar() -> ProgressBar {
    let template = "{bar:24.cyan/blue} {bytes}/{total_bytes} {msg}  ETA {eta}";
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn draw(bar: &ProgressBar, progress: Progress) {
    // How much a stream has is not known.
    bar.set_length(progress.bytes_total.max(progress.bytes_done));
    bar.set_position(progress.bytes_done);
    bar.set_message(format!("{} tokens", show::count(progress.tokens as f64)));
}

fn sentence(args: &PrepareArgs, summary: &PrepareSummary) -> String {
    let count = |n: u64| show::count(n as f64);
    format!(
        "{}: {} of text from {} files {} {} training tokens and {} held-out tokens{}",
        args.out.display(),
        show::bytes(summary.text_bytes as f64),
        summary.files,
        if summary.reused { "are already there as" } else { "became" },
        count(summary.train_tokens),
        count(summary.validation_tokens),
        if summary.validation_tokens == 0 { "; nothing is held out" } else { "" },
    )
}
