//! One corpus in the wrappings that people have it in: each gives the same training tokens, or a
//! refusal or a warning that names what was left out.
//!
//! Prints `figure inputs.wrappings_equal N %`.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{Corpus, PrepareOptions, Split, TokenizerChoice, prepare};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::basic::{BrotliLevel, Compression as Codec, GzipLevel, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

/// Short and long texts, of one and of several documents, with whatever characters.
fn texts() -> Vec<String> {
    let mut texts: Vec<_> = (0..300).map(|at| format!("text {at} with \"quotes\"\n")).collect();
    texts.push("é, 漢字, 😀 and \u{2028} in one text\r\n".repeat(50));
    texts.push("a line of a long text\n".repeat(10_000));
    texts.push("no line end ".repeat(10_000));
    texts.push("tab\t, backslash \\, slash /, brackets ]}[{, NaN".to_owned());
    texts
}

/// An input, and what the wrapping needs to be said.
struct Wrapping {
    name: &'static str,
    inputs: Vec<PathBuf>,
    text_field: &'static str,
    /// The text that a warning or a refusal has to name, where something is left out.
    named: &'static str,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

fn marked(bytes: &[u8]) -> Vec<u8> {
    [b"\xef\xbb\xbf", bytes].concat()
}

fn utf16(text: &str) -> Vec<u8> {
    let units = "\u{feff}".encode_utf16().chain(text.encode_utf16());
    units.flat_map(u16::to_le_bytes).collect()
}

/// A Parquet file of the texts, in several row groups, with nulls between where `nulls`.
fn parquet(texts: &[String], field: &str, properties: WriterProperties, nulls: bool) -> Vec<u8> {
    let schema = format!(
        "message rows {{ required int64 id; {} binary {field} (UTF8); }}",
        if nulls { "optional" } else { "required" }
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for rows in texts.chunks(100) {
        let mut group = writer.next_row_group().unwrap();
        let per_text = if nulls { 2 } else { 1 };
        let ids: Vec<i64> = (0..).take(rows.len() * per_text).collect();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let values: Vec<ByteArray> = rows.iter().map(|text| text.as_str().into()).collect();
        let levels: Vec<i16> = [1, 0].into_iter().cycle().take(rows.len() * 2).collect();
        let levels = nulls.then_some(levels);
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, levels.as_deref(), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

fn codecs() -> [(&'static str, Codec); 7] {
    [
        ("uncompressed", Codec::UNCOMPRESSED),
        ("snappy", Codec::SNAPPY),
        ("gzip", Codec::GZIP(GzipLevel::default())),
        ("zstd", Codec::ZSTD(ZstdLevel::default())),
        ("brotli", Codec::BROTLI(BrotliLevel::default())),
        ("lz4", Codec::LZ4),
        ("lz4_raw", Codec::LZ4_RAW),
    ]
}

struct Place {
    root: tempfile::TempDir,
    wrappings: Vec<Wrapping>,
}

impl Place {
    fn file(&mut self, name: &'static str, content: impl AsRef<[u8]>) {
        self.folder(name, &[(name, content.as_ref())]);
        let last = self.wrappings.last_mut().unwrap();
        last.inputs[0].push(name);
    }

    fn folder(&mut self, name: &'static str, files: &[(&str, &[u8])]) {
        let folder = self.root.path().join(self.wrappings.len().to_string());
        for (name, content) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let inputs = vec![folder];
        self.wrappings.push(Wrapping { name, inputs, text_field: "text", named: "" });
    }

    fn leaving_out(&mut self, named: &'static str) {
        self.wrappings.last_mut().unwrap().named = named;
    }

    fn with_field(&mut self, field: &'static str) {
        self.wrappings.last_mut().unwrap().text_field = field;
    }
}

fn records(texts: &[String], field: &str) -> Vec<Value> {
    texts.iter().enumerate().map(|(id, text)| json!({ "id": id, field: text })).collect()
}

fn lines(texts: &[String]) -> String {
    records(texts, "text").iter().map(|record| format!("{record}\n")).collect()
}

fn add_json(place: &mut Place, texts: &[String]) {
    let lines = lines(texts);
    let bytes = lines.as_bytes();
    let array = Value::Array(records(texts, "text"));
    for name in ["a.jsonl", "A.JSONL", "a.ndjson", "a.NdJson", "lines.json", "a.jsonlines"] {
        place.file(name, bytes);
    }
    place.file("array.json", array.to_string());
    place.file("pretty.json", format!("{array:#}"));
    for name in ["a.jsonl.gz", "a.ndjson.gz", "a.json.gz", "A.JSONL.GZ"] {
        place.file(name, gzip(bytes));
    }
    place.file("array.json.gz", gzip(array.to_string().as_bytes()));
    for name in ["a.jsonl.zst", "a.json.zst", "RC_2019-04.zst"] {
        place.file(name, zst(bytes));
    }
    place.file("array.json.zst", zst(format!("{array:#}").as_bytes()));
    place.file("marked.jsonl", marked(bytes));
    place.file("marked.json", marked(array.to_string().as_bytes()));
    place.file("marked.jsonl.gz", gzip(&marked(bytes)));
    place.file("utf16.jsonl", utf16(&lines));
    place.file("crlf.jsonl", lines.replace("}\n", "}\r\n"));
    place.file("no-name", bytes);
    place.file("lines.txt", bytes);
    let field: String = records(texts, "content").iter().map(|it| format!("{it}\n")).collect();
    place.file("content.jsonl", &field);
    place.with_field("content");
    place.file("wrong-field.jsonl", &field);
    place.leaving_out("--text-field");
    let odd: String =
        lines.replace("{\"id\":", "{\"x\": NaN, \"h\": \"\\ud800\", \"id\": 0, \"id\":");
    place.file("odd.jsonl", odd);
    place.file("broken.jsonl", format!("{lines}{{\"text\": \"cut\n"));
    place.leaving_out("the first is line 305 of");
}

fn add_parquet(place: &mut Place, texts: &[String]) {
    for (name, codec) in codecs() {
        let properties = || WriterProperties::builder().set_compression(codec);
        place.folder(name, &[("0.parquet", &parquet(texts, "text", properties().build(), false))]);
        let newer = properties().set_writer_version(WriterVersion::PARQUET_2_0).build();
        place.folder(name, &[("0.PARQUET", &parquet(texts, "text", newer, false))]);
    }
    let plain = WriterProperties::default;
    place.file("body.parquet", parquet(texts, "body", plain(), false));
    place.with_field("body");
    place.file("wrong-field.parquet", parquet(texts, "body", plain(), false));
    place.leaving_out("it has no column `text`, but `id`, `body`");
    place.file("0123abcdef", parquet(texts, "text", plain(), false));
    place.file("nulls.parquet", parquet(texts, "text", plain(), true));
    place.leaving_out("304 records were left out because they have no string");
    let rows = parquet(texts, "text", plain(), false);
    let card = "# A data set\n".repeat(1_000);
    let beside = [("README.md", card.as_bytes()), ("data/a.parquet", &rows), ("load.py", b"x")];
    place.folder("data set", &beside);
    place.leaving_out("1 .md beside records (13000 bytes), 1 .py beside records");
    place.file("packed.parquet.gz", gzip(&rows));
    place.leaving_out("unpack it");
}

fn add_text(place: &mut Place, texts: &[String]) {
    for (name, extension) in [("txt", "txt"), ("TXT", "TXT"), ("md", "md"), ("rs", "rs")] {
        each(place, name, texts, extension, |text| text.as_bytes().to_vec());
    }
    each(place, "txt.gz", texts, "txt.gz", |text| gzip(text.as_bytes()));
    each(place, "txt.zst", texts, "txt.zst", |text| zst(text.as_bytes()));
    each(place, "marked txt", texts, "txt", |text| marked(text.as_bytes()));
    each(place, "utf16 txt", texts, "txt", utf16);
    each(place, "one record a file", texts, "json", |text| {
        json!({ "text": text }).to_string().into()
    });
    each(place, "gzip without saying so", texts, "txt", |text| gzip(text.as_bytes()));
    let pictures = ("z.png", &[0_u8, 1, 2][..]);
    let jsonl = lines(texts);
    place.folder("beside a picture", &[("a.jsonl", jsonl.as_bytes()), pictures]);
    place.leaving_out("1 .png (3 bytes)");
    place.folder("only csv", &[("a.csv", b"id,text\n")]);
    place.leaving_out("1 .csv (8 bytes)");
    place.folder("a cache", &[("blobs/0a1b", jsonl.as_bytes()), ("blobs/2c3d", b"# About\n")]);
    let folder = place.wrappings.last().unwrap().inputs[0].clone();
    let snapshot = folder.join("snapshots/abc");
    fs::create_dir_all(&snapshot).unwrap();
    symlink("../../blobs/0a1b", snapshot.join("train.jsonl")).unwrap();
    symlink("../../blobs/2c3d", snapshot.join("README.md")).unwrap();
    place.leaving_out("1 .md beside records (8 bytes)");
    place.wrappings.push(Wrapping {
        name: "a snapshot",
        inputs: vec![snapshot],
        text_field: "text",
        named: "1 .md beside records (8 bytes)",
    });
    let half = jsonl.find("{\"id\":150,").unwrap();
    let (first, second) = (gzip(&jsonl.as_bytes()[..half]), zst(&jsonl.as_bytes()[half..]));
    place.folder("shards", &[("a-0.jsonl.gz", &first), ("a-1.jsonl.zst", &second)]);
}

/// A file for each text, in the order of names.
fn each(
    place: &mut Place,
    name: &'static str,
    texts: &[String],
    extension: &str,
    wrap: impl Fn(&str) -> Vec<u8>,
) {
    let files: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(at, text)| (format!("{at:04}.{extension}"), wrap(text)))
        .collect();
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    place.folder(name, &files);
}

/// The training tokens, or why there are none; and the warnings.
fn tokens(wrapping: &Wrapping, out: &Path) -> (Result<Vec<u32>, String>, String) {
    let (inputs, byte) = (wrapping.inputs.clone(), TokenizerChoice::Byte);
    let mut options = PrepareOptions::new(inputs, byte, out.to_owned());
    options.text_field = wrapping.text_field.to_owned();
    options.validation = "5%".parse().unwrap();
    match prepare(&options, &mut |_| {}) {
        Ok(summary) => {
            let corpus = Corpus::open(out).unwrap();
            let mut tokens = vec![0; usize::try_from(corpus.tokens(Split::Train)).unwrap()];
            corpus.read(Split::Train, 0, &mut tokens).unwrap();
            (Ok(tokens), summary.warnings.join("\n"))
        }
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            (Err(format!("{error}: {}", cause.unwrap_or_default())), String::new())
        }
    }
}

#[test]
fn one_corpus_in_any_wrapping_gives_the_same_tokens_or_names_what_it_leaves_out() {
    let texts = texts();
    let root = tempfile::tempdir().unwrap();
    let mut place = Place { root, wrappings: Vec::new() };
    add_json(&mut place, &texts);
    add_parquet(&mut place, &texts);
    add_text(&mut place, &texts);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let packed = gzip(lines(&texts).as_bytes());
    let pipe = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
    let feeder = std::thread::spawn(move || writer.write_all(&packed).unwrap());
    let piped = Wrapping { name: "a pipe", inputs: vec![pipe], text_field: "text", named: "" };
    place.wrappings.push(piped);

    let out = tempfile::tempdir().unwrap();
    let (expected, warnings) = tokens(&place.wrappings[0], &out.path().join("first"));
    let (expected, mut wrong) = (expected.unwrap(), Vec::new());
    assert_eq!(warnings, "");
    for (at, wrapping) in place.wrappings.iter().enumerate() {
        let (found, warnings) = tokens(wrapping, &out.path().join(at.to_string()));
        let right = match &found {
            Ok(tokens) if wrapping.named.is_empty() => *tokens == expected && warnings.is_empty(),
            Ok(tokens) => *tokens == expected && warnings.contains(wrapping.named),
            Err(error) => !wrapping.named.is_empty() && error.contains(wrapping.named),
        };
        if !right {
            let what = found.map(|tokens| tokens.len());
            wrong.push(format!("{} ({}): {what:?}, {warnings}", wrapping.name, wrapping.named));
        }
    }
    feeder.join().unwrap();
    let all = place.wrappings.len();
    println!("figure inputs.wrappings {all} wrappings");
    println!("figure inputs.wrappings_equal {} %", 100 * (all - wrong.len()) / all);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(all >= 12);
    drop(reader);
}

#[test]
fn a_parquet_file_that_was_changed_or_cut_off_is_read_or_refused() {
    let texts: Vec<_> = (0..200).map(|at| format!("text {at} of some length\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let (input, out) = (folder.path().join("a.parquet"), folder.path().join("out"));
    let mut options = PrepareOptions::new(vec![input.clone()], TokenizerChoice::Byte, out.clone());
    options.allow_passed_over = true;
    for (_, codec) in codecs() {
        let properties = WriterProperties::builder().set_compression(codec).build();
        let whole = parquet(&texts, "text", properties, true);
        for step in 0..30 {
            let mut bytes = whole.clone();
            // Every place of the end, which has the lengths of everything, and some of the rest.
            let at = (step * 7919) % bytes.len();
            let near_end = bytes.len() - 1 - (step * 13) % 600;
            match step % 3 {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= 0x55,
                _ => bytes[near_end] ^= 0xff,
            }
            fs::write(&input, bytes).unwrap();
            if prepare(&options, &mut |_| {}).is_ok() {
                fs::remove_dir_all(&out).unwrap();
            }
        }
    }
}
