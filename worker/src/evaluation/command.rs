//! `heteroloco-worker eval`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use data::{Corpus, HeldOut, Split, Tokenizer};

use super::report::{DocumentReport, HeldOutReport, Report, Score, TaskReport};
use super::{AnswerScore, Documents, Question, Scorer, Text, TextScore, read_documents};
use crate::model::Replica;
use crate::trained::{Trained, data_of_run};

/// Which checkpoint is evaluated on what.
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// A run, a checkpoint, a folder of them (the newest is taken), or an exported model.
    #[arg(long, value_name = "DIR")]
    checkpoint: PathBuf,
    /// Questions or texts, a JSON object on each line; may be given several times.
    #[arg(long, value_name = "FILE")]
    tasks: Vec<PathBuf>,
    /// Folder made by `heteroloco data prepare`: loss on what is held out there [default: a run's
    /// own data, where neither this nor tasks are given].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Take at most so many documents of each file, and sequences of the data.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Tokens of a sequence of the data [default: the model's longest].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sequence_length: Option<u32>,
    /// Write the figures, and the log-likelihoods of each document, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Evaluates a checkpoint's model and prints what was found.
///
/// # Errors
/// The checkpoint, a file or the data cannot be read, or the model not computed.
pub fn eval_command(arguments: &EvalArguments) -> anyhow::Result<()> {
    let limit = arguments.limit.map(|limit| limit as usize);
    let data = data(arguments)?;
    // All files are read before a model is: mistakes in them show at once.
    let files = arguments.tasks.iter().map(|path| read_documents(path, limit));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let trained = Trained::open(&arguments.checkpoint)?;
    let mut replica = trained.replica()?;
    let held_out = match &data {
        Some(data) => Some(held_out(arguments, &trained, &mut replica, data)?),
        None => None,
    };
    let mut tasks = Vec::new();
    for (path, documents) in arguments.tasks.iter().zip(&files) {
        let mut scorer = Scorer::new(&mut replica, &trained.tokenizer);
        let (score, documents) = match documents {
            Documents::Questions(questions) => score_questions(&mut scorer, questions, path)?,
            Documents::Texts(texts) => score_texts(&mut scorer, texts, path)?,
        };
        tasks.push(TaskReport { file: path.clone(), score, documents });
    }
    let report = Report { checkpoint: arguments.checkpoint.clone(), held_out, tasks };
    if let Some(path) = &arguments.json {
        let bytes = serde_json::to_vec_pretty(&report).context("failed to encode the figures")?;
        durable::write(path, &bytes)?;
    }
    write!(std::io::stdout(), "{report}").context("failed to print the figures")
}

/// The data whose held-out part is measured, if any is.
fn data(arguments: &EvalArguments) -> anyhow::Result<Option<PathBuf>> {
    if arguments.data.is_some() || !arguments.tasks.is_empty() {
        return Ok(arguments.data.clone());
    }
    let own = data_of_run(&arguments.checkpoint);
    own.map(Some).context(
        "failed to evaluate: give --tasks FILE or --data DIR, or name a run's folder, whose own \
         data is then taken",
    )
}

fn score_questions(
    scorer: &mut Scorer<'_>,
    questions: &[Question],
    path: &Path,
) -> anyhow::Result<(Score, Vec<DocumentReport>)> {
    let mut found = Vec::new();
    for Question { line, context, choices, gold } in questions {
        let scores =
            choices.iter().map(|choice| scorer.continuation(context, &format!(" {choice}")));
        let log_likelihoods =
            scores.collect::<Result<Vec<_>, _>>().with_context(|| at(*line, path))?;
        found.push(DocumentReport { line: *line, log_likelihoods, gold: Some(*gold) });
    }
    let answers = questions.iter().zip(&found);
    let answers = answers.map(|(question, found)| {
        (&question.choices[..], &found.log_likelihoods[..], question.gold)
    });
    Ok((Score::Answers(AnswerScore::of(answers)), found))
}

fn score_texts(
    scorer: &mut Scorer<'_>,
    texts: &[Text],
    path: &Path,
) -> anyhow::Result<(Score, Vec<DocumentReport>)> {
    let mut found = Vec::new();
    for Text { line, text } in texts {
        let log_likelihood = scorer.rolling(text).with_context(|| at(*line, path))?;
        let log_likelihoods = vec![log_likelihood];
        found.push(DocumentReport { line: *line, log_likelihoods, gold: None });
    }
    let pairs = texts.iter().zip(&found);
    let pairs = pairs.map(|(text, found)| (&text.text[..], found.log_likelihoods.iter().sum()));
    Ok((Score::Texts(TextScore::of(pairs)), found))
}

fn at(line: usize, path: &Path) -> String {
    format!("failed to evaluate line {line} of {}", path.display())
}

/// Loss on the validation split, in sequences that do not overlap, as a run measures it.
fn held_out(
    arguments: &EvalArguments,
    trained: &Trained,
    replica: &mut Replica,
    data: &Path,
) -> anyhow::Result<HeldOutReport> {
    let corpus = Corpus::open(data)?;
    let tokenizer = corpus.tokenizer()?;
    // A checkpoint has its tokenizer in Hugging Face's form, whatever it was.
    anyhow::ensure!(
        tokenizer.hugging_face_files() == trained.tokenizer.hugging_face_files(),
        "failed to evaluate on {}: it was prepared with another tokenizer than the checkpoint's",
        data.display()
    );
    let length = arguments.sequence_length.unwrap_or(trained.config.max_position_embeddings);
    let sequences = arguments.limit.unwrap_or(u32::MAX);
    let windows = HeldOut::new(corpus.tokens(Split::Validation), length, sequences)
        .with_context(|| format!("failed to evaluate on what {} holds out", data.display()))?;
    let (mut loss_sum, mut tokens, mut bytes) = (0.0, 0, 0);
    let mut row = vec![0; length as usize + 1];
    for first in windows.sequences() {
        corpus.read(Split::Validation, first, &mut row)?;
        loss_sum += replica.loss(&row, 1, length as usize)?;
        tokens += u64::from(length);
        bytes += row[1..].iter().filter(|token| **token != tokenizer.end_token()).count();
    }
    let loss = loss_sum / tokens as f64;
    let bits = || loss_sum / std::f64::consts::LN_2 / bytes as f64;
    Ok(HeldOutReport {
        data: data.into(),
        tokens,
        loss,
        perplexity: libm::exp(loss),
        bits_per_byte: matches!(tokenizer, Tokenizer::Byte).then(bits),
    })
}
