//! Scripts as psql reads them: statements that end with a semicolon at the end of a line, comments, rows for COPY after the
//! statement that reads them. A comment `-- since 17` is about the statement that follows.

/// One statement of a script.
pub struct Statement {
    pub line: usize,
    /// The first major version that it is asked of.
    pub since: u32,
    /// As it is in the script.
    pub text: String,
    /// What COPY FROM STDIN is sent.
    pub data: Option<String>,
}

impl Statement {
    /// The text on one line.
    pub fn on_one_line(&self) -> String {
        self.text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// The statements of a script, in order.
pub fn statements(script: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut text = String::new();
    let (mut begun, mut since) = (0, 0);
    let mut lines = (1..).zip(script.lines());
    while let Some((line, content)) = lines.next() {
        if text.is_empty() {
            if let Some(major) = content.strip_prefix("-- since ") {
                since = major.parse().expect("a major version");
            }
            if content.is_empty() || content.starts_with("--") {
                continue;
            }
            begun = line;
        } else {
            text.push('\n');
        }
        text += content;
        let in_body = text.matches("$$").count() % 2 == 1;
        if in_body || !content.ends_with(';') {
            continue;
        }
        text.pop();
        let data = text.contains("from stdin").then(|| {
            let rows = lines.by_ref().map(|(_, row)| row).take_while(|row| *row != "\\.");
            rows.map(|row| format!("{row}\n")).collect()
        });
        statements.push(Statement { line: begun, since, text: std::mem::take(&mut text), data });
        since = 0;
    }
    assert!(text.is_empty(), "a statement has no end: {text}");
    statements
}

/// What stands in guillemets in this text, and the text with other things in their places.
pub fn replace_values(text: &str, mut place: impl FnMut(&str) -> String) -> String {
    let mut parts = text.split(['«', '»']);
    let mut replaced = parts.next().unwrap_or_default().to_owned();
    while let (Some(value), Some(after)) = (parts.next(), parts.next()) {
        replaced += &place(value);
        replaced += after;
    }
    replaced
}
