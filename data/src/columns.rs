//! The text's column of an Apache Parquet file, row by row. A page of the column is in memory at a
//! time, and its dictionary.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

/// The first bytes of Parquet files.
pub(crate) const MAGIC: &[u8] = b"PAR1";
/// Rows that are read together.
const BATCH_ROWS: usize = 64;
/// Most columns that are named where the text's is not among them.
const COLUMNS_NAMED_MAX: usize = 8;

/// The column of a file that has the text.
pub(crate) struct Column {
    file: SerializedFileReader<File>,
    at: usize,
}

/// Takes a row's text, if it has one; an error ends the reading.
pub(crate) type ReceiveRow<'a, E> = &'a mut dyn FnMut(Option<&[u8]>) -> Result<(), E>;

/// A file that has no such column: what to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoColumn(pub(crate) String);

/// Asks the reader of Parquet, which panics on some files whose figures contradict each other.
fn ask<T>(question: impl FnOnce() -> Result<T, ParquetError>) -> io::Result<T> {
    let answer = catch_unwind(AssertUnwindSafe(question)).unwrap_or_else(|_| {
        Err(ParquetError::General("the figures in it contradict each other".to_owned()))
    });
    answer.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl Column {
    /// Finds the column called `field`.
    pub(crate) fn open(file: File, field: &str) -> io::Result<Result<Self, NoColumn>> {
        let file = ask(|| SerializedFileReader::new(file))?;
        let found = find(file.metadata().file_metadata().schema_descr(), field);
        Ok(found.map(|at| Self { file, at }))
    }

    /// Bytes of the column, unpacked.
    pub(crate) fn bytes(&self) -> u64 {
        let groups = self.file.metadata().row_groups().iter();
        let bytes = groups.map(|group| group.column(self.at).uncompressed_size());
        bytes.map(|bytes| u64::try_from(bytes).unwrap_or(0)).sum()
    }

    /// Hands every row's text to `receive`, `None` where the row has none.
    pub(crate) fn read<E: From<io::Error>>(&self, receive: ReceiveRow<'_, E>) -> Result<(), E> {
        for group in 0..self.file.num_row_groups() {
            let group = ask(|| self.file.get_row_group(group))?;
            let reader = ask(|| group.get_column_reader(self.at))?;
            let ColumnReader::ByteArrayColumnReader(mut reader) = reader else {
                return Err(io::Error::other("its column changed its type").into());
            };
            let there = group.metadata().column(self.at).column_descr().max_def_level();
            loop {
                let (mut values, mut levels) = (Vec::new(), Vec::new());
                let (rows, _, _) =
                    ask(|| reader.read_records(BATCH_ROWS, Some(&mut levels), None, &mut values))?;
                if rows == 0 {
                    break;
                }
                let mut values = values.iter();
                for row in 0..rows {
                    let has = there == 0 || levels.get(row) == Some(&there);
                    let value = if has { values.next() } else { None };
                    receive(value.map(|value| value.data()))?;
                }
            }
        }
        Ok(())
    }
}

fn find(schema: &SchemaDescriptor, field: &str) -> Result<usize, NoColumn> {
    let columns = schema.columns();
    let Some(at) = columns.iter().position(|column| column.path().string() == field) else {
        let named = columns.iter().take(COLUMNS_NAMED_MAX);
        let names: Vec<_> = named.map(|column| format!("`{}`", column.path().string())).collect();
        let more = if columns.len() > COLUMNS_NAMED_MAX { ", …" } else { "" };
        let names = names.join(", ");
        return Err(NoColumn(format!("it has no column `{field}`, but {names}{more}")));
    };
    let column = &columns[at];
    if column.physical_type() != PhysicalType::BYTE_ARRAY || column.max_rep_level() > 0 {
        return Err(NoColumn(format!("its column `{field}` is not of strings")));
    }
    Ok(at)
}

#[cfg(test)]
mod tests;
