//! The next steps once a session is over, as commands to type.

use std::path::{Path, PathBuf};

use super::event::Outcome;
use super::summary::Summary;
use crate::args::UpArgs;

/// Folder in the run's own that an export is proposed to go to.
const EXPORTED: &str = "huggingface";

/// The parts that the commands are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// The command, as it was called.
    pub program: PathBuf,
    /// Arguments with which the run goes on.
    pub resume: Vec<PathBuf>,
    /// The run's folder, as it was named.
    pub run_dir: PathBuf,
    /// The run's data, where something of it is held out.
    pub held_out: Option<PathBuf>,
    /// The current folder: paths in it are shown as from there.
    pub here: PathBuf,
}

impl Next {
    /// The next steps after a session that was started by `args`, in the folder `run_dir`.
    pub fn new(args: &UpArgs, run_dir: &Path, held_out: Option<PathBuf>) -> Self {
        let mut resume: Vec<PathBuf> = vec!["up".into(), "-f".into()];
        resume.extend(args.files.iter().cloned());
        if let Some(data) = &args.data {
            resume.extend(["--data".into(), data.clone()]);
        }
        if let Some(run_dir) = &args.run_dir {
            resume.extend(["--run-dir".into(), run_dir.clone()]);
        }
        if !args.measured.is_empty() {
            resume.push("--measured".into());
            resume.extend(args.measured.iter().cloned());
        }
        resume.push("--resume".into());
        let program = std::env::args_os().next().map_or_else(|| "heteroloco".into(), PathBuf::from);
        let here = std::env::current_dir().unwrap_or_default();
        Self { program, resume, run_dir: run_dir.to_owned(), held_out, here }
    }

    /// The lines, each with its end; none where nothing can be done.
    pub fn text(&self, outcome: &Outcome, summary: &Summary) -> String {
        let resume = || self.command(&self.resume);
        let mut steps = match outcome {
            Outcome::Stopped => vec![("go on", resume())],
            Outcome::Failed(_) => vec![("go on, once that is mended", resume())],
            Outcome::Finished | Outcome::Refused(_) => Vec::new(),
        };
        // Commands take the folder of an island's checkpoints, and of them the newest.
        let newest = summary.checkpoint.as_deref().and_then(|path| Path::new(path).parent());
        steps.extend(newest.into_iter().flat_map(|folder| self.of_checkpoint(folder)));
        if *outcome == Outcome::Finished && newest.is_some() {
            steps.push(("train on, once the run asks for more tokens", resume()));
        }
        let line = |(what, command): &(&str, String)| format!("to {what}:\n  {command}\n");
        steps.iter().map(line).collect()
    }

    fn of_checkpoint(&self, folder: &Path) -> Vec<(&'static str, String)> {
        let folder = || self.seen_from_here(folder);
        let arg = |text: &str| PathBuf::from(text);
        let of = |command: &str| vec![arg(command), arg("--checkpoint"), folder()];
        let mut steps = Vec::new();
        let prompt = [of("generate"), vec![arg("--prompt"), arg("Once upon a time")]].concat();
        steps.push(("continue a text", self.command(&prompt)));
        if let Some(data) = &self.held_out {
            let data = [of("eval"), vec![arg("--data"), self.seen_from_here(data)]].concat();
            steps.push(("measure the loss on what was held out", self.command(&data)));
        }
        let out = self.seen_from_here(&self.run_dir.join(EXPORTED));
        let out = [of("export"), vec![arg("--out"), out]].concat();
        steps.push(("write a folder that Hugging Face transformers loads", self.command(&out)));
        steps
    }

    fn seen_from_here(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix(&self.here).ok().filter(|path| !path.as_os_str().is_empty());
        inside.unwrap_or(path).to_owned()
    }

    fn command(&self, args: &[PathBuf]) -> String {
        let words = std::iter::once(&self.program).chain(args);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

/// A word as a shell takes it.
fn quoted(word: &Path) -> String {
    let word = word.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod shell;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn next(line: &[&str]) -> Next {
        let Ok(Cli { command: Command::Up(args) }) = Cli::try_parse_from(line) else {
            panic!("not up")
        };
        let next = Next::new(&args, Path::new("/here/runs/tiny"), Some("/data/words".into()));
        Next { program: "bin/heteroloco".into(), here: "/here".into(), ..next }
    }

    fn summary() -> Summary {
        let checkpoint = Some("/here/runs/tiny/checkpoints/a/round-00000007".to_owned());
        Summary { checkpoint, ..Summary::default() }
    }

    #[test]
    fn a_stopped_run_says_how_it_goes_on_and_what_its_checkpoint_is_good_for() {
        let line = ["heteroloco", "up", "-f", "it's mine.yaml", "b.yaml", "--data", "d", "--json"];
        let text = next(&line).text(&Outcome::Stopped, &summary());
        let expected = "to go on:\n  \
            bin/heteroloco up -f 'it'\\''s mine.yaml' b.yaml --data d --resume\n\
            to continue a text:\n  bin/heteroloco generate --checkpoint runs/tiny/checkpoints/a \
            --prompt 'Once upon a time'\n\
            to measure the loss on what was held out:\n  bin/heteroloco eval --checkpoint \
            runs/tiny/checkpoints/a --data /data/words\n\
            to write a folder that Hugging Face transformers loads:\n  bin/heteroloco export \
            --checkpoint runs/tiny/checkpoints/a --out runs/tiny/huggingface\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_command_is_one_that_the_command_line_takes() {
        let line = ["heteroloco", "up", "-f", "run.yaml", "--run-dir", "r", "--measured", "s.json"];
        for outcome in [Outcome::Finished, Outcome::Stopped, Outcome::Failed(String::new())] {
            let text = next(&line).text(&outcome, &summary());
            let commands: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("  ")).collect();
            assert_eq!(commands.len(), 4, "{text}");
            for command in commands {
                let words = command.replace("'Once upon a time'", "Once");
                assert!(Cli::try_parse_from(words.split(' ')).is_ok(), "{command}");
            }
        }
    }

    #[test]
    fn without_a_checkpoint_there_is_nothing_to_use() {
        let next = next(&["heteroloco", "up", "-f", "run.yaml"]);
        let none = Summary::default();
        assert_eq!(next.text(&Outcome::Finished, &none), "");
        assert_eq!(next.text(&Outcome::Refused(String::new()), &none), "");
        assert!(next.text(&Outcome::Stopped, &none).starts_with("to go on:\n"));
    }
}
