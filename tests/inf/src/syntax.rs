//! The INF syntax: sections of lines, `key = value, value, ...`, `;` comments, quoted values and `%strings%`.

use std::collections::BTreeMap;

use thiserror::Error;

/// A line that is neither a section's name nor a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {what}")]
pub struct SyntaxError {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// A `%string%` that the Strings section does not define.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("%{0}% is not defined in [Strings]")]
pub struct UndefinedString(pub String);

/// One line of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line's number, from 1.
    pub number: usize,
    /// What stands before `=`, empty if there is none.
    pub key: String,
    /// What stands behind, at the commas, without quotes; strings are not replaced.
    pub values: Vec<String>,
}

impl Line {
    /// Whether the key is `key`; keys compare without case.
    #[must_use]
    pub fn is(&self, key: &str) -> bool {
        self.key.eq_ignore_ascii_case(key)
    }

    /// The value at `index`, empty if it is not there.
    #[must_use]
    pub fn value(&self, index: usize) -> &str {
        self.values.get(index).map_or("", String::as_str)
    }
}

/// A section. Several of the same name are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The name as first written.
    pub name: String,
    /// The number of the line that it is written in.
    pub number: usize,
    /// Its lines, without empty ones.
    pub lines: Vec<Line>,
}

/// An INF, section by section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inf(BTreeMap<String, Section>);

impl Inf {
    /// Reads the text of an INF.
    ///
    /// # Errors
    /// The first line that is not INF syntax.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut inf = Self::default();
        let mut current = None;
        for (number, line) in logical_lines(text) {
            let error = |what| SyntaxError { line: number, what };
            if let Some(name) = line.strip_prefix('[') {
                let name = name
                    .strip_suffix(']')
                    .ok_or(error("no ] at the end"))?
                    .trim();
                let key = name.to_ascii_lowercase();
                inf.0.entry(key.clone()).or_insert_with(|| Section {
                    name: name.to_owned(),
                    number,
                    lines: Vec::new(),
                });
                current = Some(key);
                continue;
            }
            let section = current
                .as_ref()
                .and_then(|key| inf.0.get_mut(key))
                .ok_or(error("in front of the first section"))?;
            let (key, values) = split_key(&line);
            section.lines.push(Line {
                number,
                key: key.to_owned(),
                values: fields(values).ok_or(error("a quote is not closed"))?,
            });
        }
        Ok(inf)
    }

    /// The section of this name; names compare without case.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.0.get(&name.to_ascii_lowercase())
    }

    /// The lines of a section, none if there is no such section.
    #[must_use]
    pub fn lines(&self, name: &str) -> &[Line] {
        self.section(name).map_or(&[], |section| &section.lines)
    }

    /// All sections, by name.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.0.values()
    }

    /// The first value of `key` in a section, strings not replaced.
    #[must_use]
    pub fn value(&self, section: &str, key: &str) -> Option<&str> {
        let line = self.lines(section).iter().find(|line| line.is(key))?;
        Some(line.value(0))
    }

    /// Replaces each `%name%` by its value in the Strings section; `%%` is a percent sign, and a number is a directory
    /// and stays.
    ///
    /// # Errors
    /// A string that is not defined.
    pub fn expand(&self, text: &str) -> Result<String, UndefinedString> {
        let mut parts = text.split('%');
        let mut expanded = parts.next().unwrap_or_default().to_owned();
        while let Some(name) = parts.next() {
            match name {
                "" => expanded.push('%'),
                directory if directory.bytes().all(|byte| byte.is_ascii_digit()) => {
                    expanded.extend(["%", directory, "%"]);
                }
                name => expanded.push_str(
                    self.value("Strings", name)
                        .ok_or_else(|| UndefinedString(name.to_owned()))?,
                ),
            }
            expanded.push_str(parts.next().unwrap_or_default());
        }
        Ok(expanded)
    }
}

/// The lines that say something, each with the number it starts at: comments gone, continued lines joined.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continued = false;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = without_comment(line).trim();
        let (line, continues) = match line.strip_suffix('\\') {
            Some(line) => (line.trim_end(), true),
            None => (line, false),
        };
        match lines.last_mut() {
            Some((_, last)) if continued => last.push_str(line),
            _ => lines.push((index + 1, line.to_owned())),
        }
        continued = continues;
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// The line up to a `;` that is not in quotes.
fn without_comment(line: &str) -> &str {
    &line[..unquoted(line, ';').unwrap_or(line.len())]
}

/// What stands before and behind the first `=` that is not in quotes.
fn split_key(line: &str) -> (&str, &str) {
    match unquoted(line, '=') {
        Some(at) => (line[..at].trim().trim_matches('"'), &line[at + 1..]),
        None => ("", line),
    }
}

/// Where `wanted` first is outside quotes.
fn unquoted(text: &str, wanted: char) -> Option<usize> {
    let mut quoted = false;
    text.find(|character| {
        quoted ^= character == '"';
        character == wanted && !quoted
    })
}

/// The values of a line: separated by commas outside quotes, trimmed, without their quotes. `None` if a quote is open
/// at the end.
fn fields(text: &str) -> Option<Vec<String>> {
    let mut quoted = false;
    let fields = text
        .split(|character| {
            quoted ^= character == '"';
            character == ',' && !quoted
        })
        .map(|field| unquote(field.trim()))
        .collect();
    (!quoted).then_some(fields)
}

/// Without the quotes around; two within are one.
fn unquote(field: &str) -> String {
    match field
        .strip_prefix('"')
        .and_then(|field| field.strip_suffix('"'))
    {
        Some(field) => field.replace("\"\"", "\""),
        None => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
; a comment
[Version] ; another
Signature = "$WINDOWS NT$"

[Registry]
HKR,, "Semi;colon", 0x1, "a, ""b"" ; c"
HKR, Sub\
    Key, %Name%

[version]
Class = %Name%

[Strings]
Name = "a name"
"#;

    #[test]
    fn sections_and_lines() {
        let inf = Inf::parse(TEXT).unwrap();
        assert_eq!(inf.value("VERSION", "signature"), Some("$WINDOWS NT$"));
        let registry = inf.lines("registry");
        assert_eq!(registry[0].number, 7);
        assert_eq!(
            registry[0].values,
            ["HKR", "", "Semi;colon", "0x1", "a, \"b\" ; c"]
        );
        assert_eq!(registry[1].values, ["HKR", "SubKey", "%Name%"]);
    }

    #[test]
    fn sections_of_one_name_are_one() {
        let inf = Inf::parse(TEXT).unwrap();
        assert_eq!(inf.section("Version").unwrap().lines.len(), 2);
        assert_eq!(inf.sections().count(), 3);
    }

    #[test]
    fn strings_are_replaced() {
        let inf = Inf::parse(TEXT).unwrap();
        assert_eq!(inf.expand("<%name%>").unwrap(), "<a name>");
        assert_eq!(inf.expand(r"%13%\a%%b").unwrap(), r"%13%\a%b");
        assert_eq!(
            inf.expand("%other%"),
            Err(UndefinedString("other".to_owned()))
        );
    }

    #[test]
    fn what_is_no_syntax_is_named_by_line() {
        let line = |text| Inf::parse(text).unwrap_err().line;
        assert_eq!(line("\nKey = 1\n[Version]\n"), 2);
        assert_eq!(line("[Version\n"), 1);
        assert_eq!(line("[Version]\nClass = \"open\nProvider = 1\n"), 2);
    }
}
