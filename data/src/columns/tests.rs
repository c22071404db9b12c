//! Tests of Parquet files of whatever columns, row groups and nulls.

use std::io::Write as _;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;

type Rows = Vec<Option<String>>;

fn stored(bytes: &[u8]) -> File {
    use std::io::Seek as _;
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// A file of one column of strings, in row groups.
fn file(schema: &str, groups: &[Rows]) -> File {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let most = schema.get_fields()[0].is_optional();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    for rows in groups {
        let mut group = writer.next_row_group().unwrap();
        let values: Vec<ByteArray> = rows.iter().flatten().map(|it| it.as_str().into()).collect();
        let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.is_some())).collect();
        let levels = most.then_some(levels);
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&values, levels.as_deref(), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    stored(&writer.into_inner().unwrap())
}

fn empty(schema: &str) -> File {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    stored(&writer.into_inner().unwrap())
}

fn read(file: File) -> Rows {
    let column = Column::open(file, "text").unwrap().unwrap();
    let mut rows = Vec::new();
    column
        .read::<io::Error>(&mut |row| {
            rows.push(row.map(|row| String::from_utf8(row.to_vec()).unwrap()));
            Ok(())
        })
        .unwrap();
    rows
}

const OPTIONAL: &str = "message rows { optional binary text (UTF8); }";
const REQUIRED: &str = "message rows { required binary text (UTF8); }";

/// Every third row is null, where there may be nulls.
fn rows(count: usize, nulls: bool) -> Rows {
    (0..count).map(|row| (!nulls || row % 3 != 1).then(|| format!("row {row}"))).collect()
}

#[test]
fn rows_come_in_order_with_their_nulls_however_many_are_read_together() {
    for nulls in [true, false] {
        let schema = if nulls { OPTIONAL } else { REQUIRED };
        for counts in [
            &[1][..],
            &[BATCH_ROWS - 1, 1],
            &[BATCH_ROWS],
            &[BATCH_ROWS + 1, 2 * BATCH_ROWS, 5],
            &[0, 3, 0, 4],
            &[],
        ] {
            let groups: Vec<Rows> = counts.iter().map(|count| rows(*count, nulls)).collect();
            assert_eq!(read(file(schema, &groups)), groups.concat(), "{counts:?}");
        }
    }
    let silent: Rows = vec![None; 2 * BATCH_ROWS + 1];
    assert_eq!(read(file(OPTIONAL, std::slice::from_ref(&silent))), silent);
    let blank = vec![Some(String::new()), None, Some(String::new())];
    assert_eq!(read(file(OPTIONAL, std::slice::from_ref(&blank))), blank, "empty is not null");
}

#[test]
fn a_column_is_found_by_its_path_where_it_has_strings() {
    let table = [
        ("message a { required binary text; }", "text", Ok(0)),
        ("message a { required int32 id; optional binary text (UTF8); }", "text", Ok(1)),
        ("message a { optional group meta { optional binary text (UTF8); } }", "meta.text", Ok(0)),
        (
            "message a { optional group meta { optional binary text (UTF8); } }",
            "text",
            Err("it has no column `text`, but `meta.text`"),
        ),
        ("message a { required binary Text; }", "text", Err("it has no column `text`, but `Text`")),
        ("message a { required int64 text; }", "text", Err("its column `text` is not of strings")),
        (
            "message a { required fixed_len_byte_array (4) text; }",
            "text",
            Err("its column `text` is not of strings"),
        ),
        ("message a { repeated binary text; }", "text", Err("its column `text` is not of strings")),
        (
            "message a { repeated group turns { required binary text; } }",
            "turns.text",
            Err("its column `turns.text` is not of strings"),
        ),
    ];
    for (schema, field, expected) in table {
        let found = Column::open(empty(schema), field).unwrap();
        let found = found.map(|column| column.at).map_err(|NoColumn(why)| why);
        assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|it| *it));
    }
}

#[test]
fn of_many_columns_the_first_are_named() {
    let columns = |count: usize| {
        let fields = (0..count).map(|at| format!("required int32 c{at};"));
        let schema = format!("message a {{ {} }}", fields.collect::<String>());
        let NoColumn(why) = Column::open(empty(&schema), "text").unwrap().err().unwrap();
        why
    };
    assert!(columns(8).ends_with("`c6`, `c7`"), "{}", columns(8));
    assert!(columns(9).ends_with("`c6`, `c7`, …"), "{}", columns(9));
}

#[test]
fn a_null_of_a_group_and_a_null_in_it_are_both_rows_without_text() {
    let schema = "message a { optional group meta { optional binary text (UTF8); } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let values: Vec<ByteArray> = vec!["a".into(), "b".into()];
    let levels = [2, 0, 1, 2];
    column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    let file = stored(&writer.into_inner().unwrap());
    let column = Column::open(file, "meta.text").unwrap().unwrap();
    let mut rows = Vec::new();
    column
        .read::<io::Error>(&mut |row| {
            rows.push(row.map(<[u8]>::to_vec));
            Ok(())
        })
        .unwrap();
    assert_eq!(rows, [Some(b"a".to_vec()), None, None, Some(b"b".to_vec())]);
}

#[test]
fn the_receiver_ends_the_reading_at_once() {
    let column = Column::open(file(REQUIRED, &[rows(200, false)]), "text").unwrap().unwrap();
    let mut seen = 0;
    let stopped = column.read::<io::Error>(&mut |_| {
        seen += 1;
        if seen == 3 { Err(io::Error::other("enough")) } else { Ok(()) }
    });
    assert_eq!((stopped.unwrap_err().to_string().as_str(), seen), ("enough", 3));
}

#[test]
fn the_bytes_of_a_column_are_those_of_its_texts_or_a_little_more() {
    let long = |count| vec![Some("x".repeat(1000)); count];
    let column = Column::open(file(REQUIRED, &[long(1), long(1)]), "text").unwrap().unwrap();
    assert!((2000..2400).contains(&column.bytes()), "{}", column.bytes());
    let nothing = Column::open(empty(REQUIRED), "text").unwrap().unwrap();
    assert_eq!(nothing.bytes(), 0);
}

#[test]
fn what_is_no_parquet_is_an_error_and_no_missing_column() {
    for bytes in [&b""[..], b"PAR1", b"PAR1PAR1", b"{\"text\": \"a\"}\n", &[b'x'; 500]] {
        let error = Column::open(stored(bytes), "text").err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
    }
}
