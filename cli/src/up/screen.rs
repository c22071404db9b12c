//! What people see while a run goes on: bars on a terminal, plain lines elsewhere, or every record
//! as JSON. What is said is decided in [`super::lines`]; here it is only put somewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event::Record;
use super::lines::{Teller, island_line, run_line};
use super::state::RunState;

/// Where progress is shown.
#[derive(Debug)]
pub struct Screen {
    kind: Kind,
    teller: Teller,
}

#[derive(Debug)]
enum Kind {
    Bars(Bars),
    Plain,
    Json,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    run: ProgressBar,
    islands: BTreeMap<String, ProgressBar>,
}

impl Screen {
    /// Bars where standard error is a terminal, plain lines on standard output where it is not,
    /// JSON on standard output where that is asked for.
    pub fn new(json: bool) -> Self {
        let kind = if json {
            Kind::Json
        } else if std::io::stderr().is_terminal() {
            Kind::Bars(Bars::new())
        } else {
            Kind::Plain
        };
        Self { kind, teller: Teller::default() }
    }

    /// Shows a record that `state` already knows.
    pub fn record(&mut self, record: &Record, state: &RunState) {
        if let Kind::Json = self.kind {
            // A Record has a JSON form: its maps have strings for keys.
            print_line(&serde_json::to_string(record).unwrap_or_default());
            return;
        }
        for line in self.teller.lines(record, state) {
            match &self.kind {
                Kind::Bars(bars) => drop(bars.all.println(line)),
                Kind::Plain | Kind::Json => print_line(&line),
            }
        }
    }

    /// Brings bars up to date.
    pub fn draw(&mut self, state: &RunState) {
        if let Kind::Bars(bars) = &mut self.kind {
            bars.draw(state);
        }
    }

    /// Takes the bars away and prints the last words of a session, except where JSON is asked for.
    pub fn finish(self, text: &str) {
        match self.kind {
            Kind::Bars(bars) => drop(bars.all.clear()),
            Kind::Plain => {}
            Kind::Json => return,
        }
        print_line(text.trim_end());
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::new();
        let run = all.add(ProgressBar::new(0));
        run.set_style(style("{bar:24.cyan/blue} {msg}"));
        Self { all, run, islands: BTreeMap::new() }
    }

    fn draw(&mut self, state: &RunState) {
        let Some(begin) = &state.begin else { return };
        self.run.set_length(begin.tokens);
        self.run.set_position(state.tokens.min(begin.tokens));
        self.run.set_message(run_line(state));
        let width = state.islands.keys().map(|name| name.chars().count()).max().unwrap_or(0);
        for (name, island) in &state.islands {
            let bar = self.islands.entry(name.clone()).or_insert_with(|| {
                let bar = self.all.add(ProgressBar::new_spinner());
                bar.set_style(style("  {msg}"));
                bar
            });
            bar.set_message(island_line(name, width, island));
        }
    }
}

/// The templates are constants, so that a bad one shows at the first run; the default is legible.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A reader that went away is no reason to end a run.
fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
