//! Results for people (aligned columns) and for programs (JSON).

use super::Format;
use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::Write;

/// Prints a result to standard output.
pub(super) fn print<T: Serialize>(format: Format, result: &T) -> Result<()> {
    let value = serde_json::to_value(result)?;
    let text = match format {
        Format::Json => serde_json::to_string_pretty(&value)? + "\n",
        Format::Table => table(&value),
    };
    // A reader that has enough, such as `head`, is no failure.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// An object as lines of name and value, then each list in it as a table of its own.
fn table(value: &Value) -> String {
    let Value::Object(object) = value else { return plain(value) + "\n" };
    let (mut pairs, mut lists) = (Vec::new(), Vec::new());
    flatten("", object, &mut pairs, &mut lists);
    let width = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let mut text: String = pairs.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect();
    for (name, list) in lists {
        text += &format!("\n{name}:\n{}", columns(list));
    }
    text
}

fn flatten<'a>(
    path: &str,
    object: &'a Map<String, Value>,
    pairs: &mut Vec<(String, String)>,
    lists: &mut Vec<(String, &'a [Value])>,
) {
    for (name, value) in object {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Object(inner) if !inner.is_empty() => flatten(&path, inner, pairs, lists),
            Value::Array(list) if list.iter().any(Value::is_object) => lists.push((path, list)),
            _ => pairs.push((path, plain(value))),
        }
    }
}

/// A list of objects, a column for each field of the first.
fn columns(list: &[Value]) -> String {
    let names: Vec<&String> = list.first().and_then(Value::as_object).map(|o| o.keys().collect()).unwrap_or_default();
    let mut rows = vec![names.iter().map(|name| name.to_string()).collect::<Vec<_>>()];
    rows.extend(list.iter().map(|item| names.iter().map(|name| plain(&item[name.as_str()])).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_become_lines_and_lists_become_columns() {
        let value = json!({
            "height": 7,
            "validator": { "weight": 1 },
            "reason": null,
            "peers": [{ "address": "a", "height": 10 }, { "address": "bbb", "height": 9 }],
            "none": [],
        });
        let expected = "height            7\nnone              -\nreason            -\nvalidator.weight  1\n\n\
                        peers:\n  address  height\n  a        10\n  bbb      9\n";
        assert_eq!(table(&value), expected);
    }
}
