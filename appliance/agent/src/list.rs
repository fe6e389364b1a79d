//! Lists, read from the database a part at a time: in any order that has a name, from where the last part ended.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use quantix_api::{ListQuery, Page, Problem, ProblemCode};
use rusqlite::{Connection, Row, params_from_iter, types::Value};

const USUAL: u32 = 50;
const MOST: u32 = 1000;
/// The longest text to search for.
const LONGEST_TEXT: usize = 100;
const LONGEST_CURSOR: usize = 1000;

/// Where a list comes from, in SQL.
#[derive(Debug)]
pub(crate) struct Table {
    /// The columns of an item.
    pub(crate) columns: &'static str,
    /// What stands behind `FROM`.
    pub(crate) from: &'static str,
    /// What tells one item from all others, and is never null.
    pub(crate) key: &'static str,
    /// The texts that are searched.
    pub(crate) searched: &'static str,
    /// By what it can be sorted: a name, and an expression that is never null. The first is the usual one.
    pub(crate) sorts: &'static [(&'static str, &'static str)],
    /// Whether it usually begins with the greatest.
    pub(crate) newest_first: bool,
}

/// Which part of a list is asked for, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    limit: u32,
    text: String,
    sort: &'static str,
    descending: bool,
    after: Option<(Value, Value)>,
}

impl Asked {
    /// Checks what a person or a program asks of a table.
    pub(crate) fn of(query: &ListQuery, table: &Table) -> Result<Self, Problem> {
        let limit = query.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(invalid("limit", format!("1 to {MOST} can be asked for at once.")));
        }
        let text = query.text.as_deref().unwrap_or_default().trim().to_owned();
        must_be_short("text", &text, LONGEST_TEXT)?;
        let wanted = query.sort.as_deref().unwrap_or_default();
        let (name, descending) = match wanted.strip_prefix('-') {
            Some(name) => (name, true),
            None => (wanted, wanted.is_empty() && table.newest_first),
        };
        let found = table.sorts.iter().find(|(known, _)| name.is_empty() || *known == name);
        let Some((_, sort)) = found else {
            let known: Vec<_> = table.sorts.iter().map(|(known, _)| *known).collect();
            return Err(invalid("sort", format!("This can be sorted by {}.", known.join(", "))));
        };
        let after = query.after.as_deref().map(read_cursor).transpose()?;
        Ok(Self { limit, text, sort, descending, after })
    }
}

/// What is searched for is no longer than what can be found.
pub(crate) fn must_be_short(field: &str, text: &str, longest: usize) -> Result<(), Problem> {
    if text.chars().count() <= longest {
        return Ok(());
    }
    Err(invalid(field, format!("A text to search for has at most {longest} characters.")))
}

fn invalid(field: &str, sentence: impl Into<String>) -> Problem {
    Problem::new(ProblemCode::Invalid, sentence).in_field(field)
}

/// Where a part ended: the value it was sorted by, and the key.
fn cursor(sorted_by: Value, key: Value) -> String {
    let shown = |value| match value {
        Value::Integer(number) => serde_json::Value::from(number),
        Value::Text(text) => text.into(),
        Value::Null | Value::Real(_) | Value::Blob(_) => serde_json::Value::Null,
    };
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::json!([shown(sorted_by), shown(key)]).to_string())
}

fn read_cursor(text: &str) -> Result<(Value, Value), Problem> {
    let read = || {
        let bytes = (text.len() <= LONGEST_CURSOR).then(|| BASE64_URL_SAFE_NO_PAD.decode(text).ok())??;
        let (sorted_by, key): (serde_json::Value, serde_json::Value) = serde_json::from_slice(&bytes).ok()?;
        let value = |value: serde_json::Value| match value {
            serde_json::Value::Number(number) => number.as_i64().map(Value::Integer),
            serde_json::Value::String(text) => Some(Value::Text(text)),
            _ => None,
        };
        Some((value(sorted_by)?, value(key)?))
    };
    let sentence = "This is not where a part of this list ended. Begin without “after”.";
    read().ok_or_else(|| invalid("after", sentence))
}

/// Reads the part of a table that is asked for. `filters` are further conditions, each with the value for its `?`.
pub(crate) fn read<T>(
    connection: &Connection,
    table: &Table,
    asked: &Asked,
    filters: &[(&str, Value)],
    item: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Page<T>> {
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    for (condition, value) in filters {
        conditions.push((*condition).to_owned());
        values.push(value.clone());
    }
    if !asked.text.is_empty() {
        conditions.push(format!("instr(lower({}), lower(?)) > 0", table.searched));
        values.push(Value::Text(asked.text.clone()));
    }
    let (further, order) = if asked.descending { ("<", "DESC") } else { (">", "ASC") };
    if let Some((sorted_by, key)) = &asked.after {
        conditions.push(format!("({}, {}) {further} (?, ?)", asked.sort, table.key));
        values.extend([sorted_by.clone(), key.clone()]);
    }
    let conditions =
        if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    let Table { columns, from, key, .. } = table;
    let sort = asked.sort;
    let sql = format!(
        "SELECT {columns}, {sort} AS sorted_by, {key} AS its_key FROM {from} {conditions}
         ORDER BY {sort} {order}, {key} {order} LIMIT {}",
        u64::from(asked.limit) + 1
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let (mut items, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        if items.len() == limit {
            return Ok(Page { items, next: last });
        }
        items.push(item(row)?);
        if items.len() == limit {
            last = Some(cursor(row.get("sorted_by")?, row.get("its_key")?));
        }
    }
    Ok(Page { items, next: None })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NUMBERS: Table = Table {
        columns: "name, size",
        from: "thing",
        key: "name",
        searched: "name",
        sorts: &[("name", "name"), ("size", "size")],
        newest_first: false,
    };

    fn things(things: &[(String, i64)]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE thing (name TEXT PRIMARY KEY, size INTEGER NOT NULL)")
            .unwrap();
        for thing in things {
            connection
                .execute("INSERT OR IGNORE INTO thing VALUES (?1, ?2)", rusqlite::params![thing.0, thing.1])
                .unwrap();
        }
        connection
    }

    fn query(after: Option<String>, limit: u32, sort: &str) -> ListQuery {
        ListQuery { after, limit: Some(limit), sort: Some(sort.into()), text: None }
    }

    proptest! {
        #[test]
        fn parts_put_together_are_the_whole_in_order(
            all in proptest::collection::vec(("[a-c]{1,3}", 0..4_i64), 0..30), limit in 1..7_u32, by_size: bool, back: bool
        ) {
            let connection = things(&all);
            let sort = format!("{}{}", if back { "-" } else { "" }, if by_size { "size" } else { "name" });
            let read_all = |limit| {
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let asked = Asked::of(&query(after, limit, &sort), &NUMBERS).unwrap();
                    let part = read(&connection, &NUMBERS, &asked, &[], |row| {
                        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                    }).unwrap();
                    prop_assert!(part.items.len() <= limit as usize);
                    found.extend(part.items);
                    after = part.next;
                    if after.is_none() { return Ok(found) }
                }
            };
            let whole = read_all(1000)?;
            prop_assert_eq!(&read_all(limit)?, &whole);
            let mut sorted = whole.clone();
            sorted.sort_by(|a, b| if by_size { (a.1, &a.0).cmp(&(b.1, &b.0)) } else { a.0.cmp(&b.0) });
            if back { sorted.reverse() }
            prop_assert_eq!(whole, sorted);
        }

        #[test]
        fn no_cursor_does_harm(cursor in ".{0,200}") {
            let _ = Asked::of(&query(Some(cursor), 5, "name"), &NUMBERS);
        }
    }

    #[test]
    fn what_is_not_there_cannot_be_asked_for() {
        let field = |query: &ListQuery| Asked::of(query, &NUMBERS).unwrap_err().field.unwrap();
        assert_eq!(field(&query(None, 0, "name")), "limit");
        assert_eq!(field(&query(None, 1001, "name")), "limit");
        assert_eq!(field(&query(None, 5, "password_hash")), "sort");
        assert_eq!(field(&query(Some("x".into()), 5, "name")), "after");
        assert_eq!(field(&ListQuery { text: Some("a".repeat(101)), ..ListQuery::default() }), "text");
    }

    #[test]
    fn a_text_is_only_a_text() {
        let connection = things(&[("50%".into(), 1), ("Ada".into(), 2)]);
        let found = |text: &str| {
            let query = ListQuery { text: Some(text.into()), ..ListQuery::default() };
            let asked = Asked::of(&query, &NUMBERS).unwrap();
            read(&connection, &NUMBERS, &asked, &[], |row| row.get::<_, String>(0)).unwrap().items
        };
        assert_eq!(found("%"), ["50%"]);
        assert_eq!(found("ADA"), ["Ada"]);
        assert_eq!(found("' OR 1 --"), [""; 0]);
    }
}
