//! One small configuration and what its clients ask.

/// `@@` is the case's own name, `BIND` where clients come in, `S1` to `S3` servers, `OWN` a server that
/// notes what it is asked, `DEAD` where nobody listens, `FOLDER` where files lie.
#[derive(Clone)]
pub struct Case {
    pub config: String,
    pub asks: Vec<String>,
    /// Whether its requests come on one connection.
    pub keeps: bool,
    /// Whether what the stats socket says is compared as well.
    pub states: bool,
}

impl Case {
    pub fn new(config: impl Into<String>, asks: &[&str]) -> Case {
        let asks = asks.iter().map(|ask| request(ask)).collect();
        Case { config: config.into(), asks, keeps: false, states: false }
    }

    /// A `listen` section with these lines before one server.
    pub fn web(lines: &str, asks: &[&str]) -> Case {
        Case::new(format!("listen @@\n  bind BIND\n{}  server s1 S1\n", indented(lines)), asks)
    }

    /// A frontend with these lines before a backend with those.
    pub fn pair(front: &str, back: &str, asks: &[&str]) -> Case {
        Case::new(
            format!(
                "frontend @@\n  bind BIND\n{}  default_backend @@b\nbackend @@b\n{}  server s1 S1\n",
                indented(front),
                indented(back)
            ),
            asks,
        )
    }

    pub fn on_one_connection(mut self) -> Case {
        self.keeps = true;
        self
    }

    pub fn states(mut self, compared: bool) -> Case {
        self.states = compared;
        self
    }

    /// As it is told where it differs.
    pub fn shown(&self) -> String {
        self.config.trim_end().to_owned()
    }
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("  {}\n", line.trim())).collect()
}

/// `METHOD TARGET[ | Name: value]…[ || body]` as bytes; with a Host unless one is given.
pub fn request(text: &str) -> String {
    let (head, body) = text.split_once(" || ").unwrap_or((text, ""));
    let mut parts = head.split(" | ");
    let first = parts.next().unwrap_or("");
    let mut fields: Vec<String> = parts.map(str::to_owned).collect();
    if !fields.iter().any(|f| f.to_ascii_lowercase().starts_with("host:")) {
        fields.insert(0, "Host: www.example.org".into());
    }
    if !body.is_empty() {
        fields.push(format!("Content-Length: {}", body.len()));
    }
    let version = if first.contains(" HTTP/") { "" } else { " HTTP/1.1" };
    let fields: String = fields.iter().map(|f| format!("{f}\r\n")).collect();
    format!("{first}{version}\r\n{fields}\r\n{body}")
}
