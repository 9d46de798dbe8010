//! docs/requirements.md against the tests that ran: the table cannot rot.
//!
//! A row is `| R7 | held by | how |`. "Held by" is a list of test names in backticks, or `open` (not built yet), or
//! `elsewhere` (cannot be tested here); the last two need a reason in the third column.

use std::collections::BTreeSet;

/// How many requirements there are: R1 to R115.
pub const COUNT: usize = 115;

/// What one row of the table says.
#[derive(Debug, PartialEq, Eq)]
enum HeldBy<'a> {
    Tests(Vec<&'a str>),
    Open,
    Elsewhere,
}

/// Checks the table, and that each test it names is among `ran` (full names, as the runners print them).
///
/// # Errors
/// Every fault found, one a line.
pub fn check(document: &str, ran: &BTreeSet<String>) -> Result<Summary, String> {
    let mut faults = Vec::new();
    let mut summary = Summary::default();
    let mut expected = 1;
    for line in document.lines().filter(|line| line.starts_with("| R")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, held_by, how] = cells[..] else {
            faults.push(format!("not three columns: {line}"));
            continue;
        };
        if number != format!("R{expected}") {
            faults.push(format!("R{expected} should come here, not {number}"));
        }
        expected += 1;
        match parse(held_by) {
            Some(HeldBy::Tests(names)) => {
                summary.held += 1;
                for name in names
                    .into_iter()
                    .filter(|name| !ran.iter().any(|test| is(test, name)))
                {
                    faults.push(format!(
                        "{number} names the test {name}, and no such test ran and passed"
                    ));
                }
            }
            Some(HeldBy::Open) => summary.open += 1,
            Some(HeldBy::Elsewhere) => summary.elsewhere += 1,
            None => faults.push(format!(
                "{number}: \"{held_by}\" is neither tests in backticks nor open nor elsewhere"
            )),
        }
        if !held_by.starts_with('`') && how.is_empty() {
            faults.push(format!(
                "{number} is not held by a test and gives no reason"
            ));
        }
    }
    if expected != COUNT + 1 {
        faults.push(format!("the table has {} rows, not {COUNT}", expected - 1));
    }
    if faults.is_empty() {
        Ok(summary)
    } else {
        Err(faults.join("\n"))
    }
}

/// How many requirements stand how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Held by tests that ran and passed.
    pub held: usize,
    /// Not built yet.
    pub open: usize,
    /// Cannot be tested here.
    pub elsewhere: usize,
}

/// Whether the runner's full name `test` (`module::tests::name`) is the test called `name`.
fn is(test: &str, name: &str) -> bool {
    test == name
        || test
            .strip_suffix(name)
            .is_some_and(|path| path.ends_with("::"))
}

fn parse(cell: &str) -> Option<HeldBy<'_>> {
    match cell {
        "open" => return Some(HeldBy::Open),
        "elsewhere" => return Some(HeldBy::Elsewhere),
        _ => {}
    }
    let names = cell
        .split(',')
        .map(|name| name.trim().strip_prefix('`')?.strip_suffix('`'))
        .collect::<Option<Vec<_>>>()?;
    Some(HeldBy::Tests(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(row_7: &str) -> String {
        (1..=COUNT)
            .map(|n| {
                if n == 7 {
                    format!("{row_7}\n")
                } else {
                    format!("| R{n} | open | later |\n")
                }
            })
            .collect()
    }

    fn ran() -> BTreeSet<String> {
        BTreeSet::from([
            "queue::tests::reads_wait".to_owned(),
            "copy_over_edu".to_owned(),
        ])
    }

    #[test]
    fn a_true_table_passes() {
        let summary = check(
            &table("| R7 | `reads_wait`, `copy_over_edu` | both |"),
            &ran(),
        )
        .unwrap();
        assert_eq!(
            summary,
            Summary {
                held: 1,
                open: COUNT - 1,
                elsewhere: 0
            }
        );
    }

    #[test]
    fn a_test_that_did_not_run_is_named() {
        let fault = check(&table("| R7 | `waits` | |"), &ran()).unwrap_err();
        assert!(fault.contains("R7 names the test waits"), "{fault}");
    }

    #[test]
    fn a_missing_row_is_named() {
        let fault = check(&table(""), &ran()).unwrap_err();
        assert!(fault.contains("R7 should come here, not R8"), "{fault}");
        assert!(fault.contains("114 rows"), "{fault}");
    }

    #[test]
    fn a_row_without_test_needs_a_reason() {
        let fault = check(&table("| R7 | open | |"), &ran()).unwrap_err();
        assert!(fault.contains("gives no reason"), "{fault}");
    }

    #[test]
    fn prose_is_not_a_test() {
        let fault = check(&table("| R7 | reviewed | by us |"), &ran()).unwrap_err();
        assert!(fault.contains("neither tests in backticks"), "{fault}");
    }
}
