//! Statements of many rows, because each statement is a hop to the connection's thread.

use super::super::Result;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite as Driver, Transaction};
use std::sync::Arc;

/// A statement being bound.
pub(super) type Insert<'q> = Query<'q, Driver, SqliteArguments>;

/// Rows of one statement: big ones first, smaller ones for the rest, so that few texts need preparing.
const CHUNKS: [usize; 4] = [512, 64, 8, 1];

/// The texts of a statement, one a chunk.
pub(super) fn statements(start: &str, row: &str, end: &str) -> Vec<Arc<str>> {
    CHUNKS.iter().map(|rows| format!("{start} {} {end}", vec![row; *rows].join(", ")).into()).collect()
}

/// Executes the statement for all rows; gives how many it inserted or changed.
pub(super) async fn execute<T>(
    tx: &mut Transaction<'_, Driver>,
    statements: &[Arc<str>],
    mut rows: &[T],
    mut bind: impl for<'q> FnMut(Insert<'q>, &T) -> Insert<'q>,
) -> Result<u64> {
    let mut affected = 0;
    for (size, statement) in CHUNKS.iter().zip(statements) {
        while rows.len() >= *size {
            let (chunk, rest) = rows.split_at(*size);
            let mut query = sqlx::query(AssertSqlSafe(statement.clone()));
            for row in chunk {
                query = bind(query, row);
            }
            affected += query.execute(&mut **tx).await?.rows_affected();
            rows = rest;
        }
    }
    Ok(affected)
}
