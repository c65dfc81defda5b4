//! Text to a typed expression. Everything that can be wrong is found here.

use std::ops::Range;
use std::path::PathBuf;

use crate::Template;
use crate::evaluate::{Check, Compare, Expression, List, Node, Test};
use crate::fetch::{COUNTERS, FUNCTIONS, Fetch, FetchKind, Function, NeedsHttp};
use crate::lexer::{Token, tokens};
use crate::pattern::{NetworkSet, PatternSet};
use crate::regular::regex;

/// What is wrong with an expression or a text with variables, and where in it (bytes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl ParseError {
    pub fn at(span: Range<usize>, message: impl Into<String>) -> ParseError {
        ParseError { span, message: message.into(), help: None }
    }

    pub fn help(self, help: impl Into<String>) -> ParseError {
        ParseError { help: Some(help.into()), ..self }
    }
}

/// Deeper nesting is refused, so that neither parsing nor evaluating runs out of stack.
const DEPTH: usize = 64;
const LENGTH: usize = 16 * 1024;

impl Expression {
    pub fn parse(text: &str) -> Result<Expression, ParseError> {
        if text.len() > LENGTH {
            let why = format!(
                "the condition is longer than {LENGTH} bytes; put long lists in a file: host(\"@/path\")"
            );
            return Err(ParseError::at(0..text.len(), why));
        }
        let mut parser = Parser { text, tokens: tokens(text)?, at: 0, depth: 0 };
        let root = parser.any()?;
        match parser.next() {
            (Token::End, _) => Ok(Expression { source: text.into(), root }),
            (token, span) => Err(parser.wrong(&token, span, "`&&`, `||` or the end")),
        }
    }
}

/// Why a text is no regular expression that is taken here, in few words.
pub fn check_regex(pattern: &str) -> Result<(), String> {
    regex(pattern, false).map(drop)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, Range<usize>)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn next(&mut self) -> (Token, Range<usize>) {
        let end = self.text.len();
        let found = self.tokens.get(self.at).cloned().unwrap_or((Token::End, end..end));
        self.at += 1;
        found
    }

    fn takes(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(found);
        found
    }

    fn wrong(&self, token: &Token, span: Range<usize>, expected: &str) -> ParseError {
        ParseError::at(span, format!("expected {expected}, found {}", token.describe()))
    }

    fn any(&mut self) -> Result<Node, ParseError> {
        let mut all = vec![self.all()?];
        while self.takes("||") {
            all.push(self.all()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::Any(all) })
    }

    fn all(&mut self) -> Result<Node, ParseError> {
        let mut all = vec![self.one()?];
        while self.takes("&&") {
            all.push(self.one()?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Node::All(all) })
    }

    fn one(&mut self) -> Result<Node, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH {
            let (_, span) = self.next();
            return Err(ParseError::at(span, format!("nested more than {DEPTH} deep")));
        }
        let node = if self.takes("!") {
            Node::Not(Box::new(self.one()?))
        } else if self.takes("(") {
            let inner = self.any()?;
            let (token, span) = self.next();
            match token {
                Token::Sign(")") => inner,
                token => return Err(self.wrong(&token, span, "`)`")),
            }
        } else {
            Node::Test(Box::new(self.test()?))
        };
        self.depth -= 1;
        Ok(node)
    }

    fn test(&mut self) -> Result<Test, ParseError> {
        let (token, span) = self.next();
        let Token::Word(word) = token else {
            return Err(self.wrong(&token, span, "a function such as path(\"/api/*\")"));
        };
        let Some(function) = FUNCTIONS.iter().find(|f| f.name == word) else {
            return Err(unknown(&word, span));
        };
        let mut values = Vec::new();
        let parens = self.takes("(");
        if parens && !self.takes(")") {
            loop {
                let (token, place) = self.next();
                match token {
                    Token::Text(text) => values.push((Value::Text(text), place)),
                    Token::Number(number) => values.push((Value::Number(number), place)),
                    token => return Err(self.wrong(&token, place, "a text in quotes or a number")),
                }
                let (token, place) = self.next();
                match token {
                    Token::Sign(",") => {}
                    Token::Sign(")") => break,
                    token => return Err(self.wrong(&token, place, "`,` or `)`")),
                }
            }
        }
        let (mut arguments, mut template) = (Vec::new(), None);
        for name in function.arguments {
            if values.is_empty() {
                let why = format!("{} needs its {name} in quotes first", function.name);
                return Err(ParseError::at(span, why).help(format!("such as {}", function.example)));
            }
            match values.remove(0) {
                (Value::Text(text), place) => {
                    if *name == "TEXT" {
                        let parsed = Template::parse(&text);
                        template = Some(parsed.map_err(|e| ParseError { span: place.clone(), ..e })?);
                    } else {
                        check_argument(name, &text, place)?;
                    }
                    arguments.push(text);
                }
                (Value::Number(_), place) => {
                    return Err(ParseError::at(place, format!("{name} is a text in quotes")));
                }
            }
        }
        let check = self.check(function, &arguments, values, span.clone(), parens)?;
        let end = self.tokens.get(self.at - 1).map_or(span.end, |(_, s)| s.end);
        let text = self.text[span.start..end].to_owned();
        let needs_http = template.as_ref().is_some_and(Template::needs_http);
        Ok(Test {
            text,
            fetch: function.fetch,
            needs: if needs_http { NeedsHttp::Yes } else { function.needs },
            template,
            folds: function.folds,
            normal: false,
            arguments,
            check,
        })
    }

    fn check(
        &mut self,
        function: &Function,
        arguments: &[String],
        values: Vec<(Value, Range<usize>)>,
        span: Range<usize>,
        parens: bool,
    ) -> Result<Check, ParseError> {
        let example = || format!("such as {}", function.example);
        let operator = match self.peek() {
            Token::Sign(sign @ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~")) => Some(*sign),
            _ => None,
        };
        if let Some(sign) = operator {
            let (_, place) = self.next();
            if let Some((_, place)) = values.first() {
                let why = format!("{} has patterns and is compared too; keep one of them", function.name);
                return Err(ParseError::at(place.clone(), why));
            }
            return self.comparison(function, sign, place);
        }
        match function.kind {
            FetchKind::Text if values.is_empty() && !parens => {
                let why = format!("{} is compared with nothing", function.name);
                Err(ParseError::at(span, why).help(example()))
            }
            FetchKind::Text if values.is_empty() => Ok(Check::Present),
            FetchKind::Text => patterns(function, values),
            FetchKind::Address if values.is_empty() => {
                let why = format!("{} names no network", function.name);
                Err(ParseError::at(span, why).help(example()))
            }
            FetchKind::Address => networks(values),
            FetchKind::Number if values.is_empty() => {
                let why = format!("{} is a number and is compared with nothing", function.name);
                Err(ParseError::at(span, why).help(example()))
            }
            FetchKind::Number => {
                let each = values.into_iter().map(|(value, place)| match value {
                    Value::Number(number) => Ok(number),
                    Value::Text(_) => Err(ParseError::at(place, "expected a number without quotes")),
                });
                each.collect::<Result<_, _>>().map(Check::Numbers)
            }
            FetchKind::Flag => match (values.first(), function.fetch) {
                (Some((_, place)), _) => {
                    let why = format!("{} takes no more than that", function.name);
                    Err(ParseError::at(place.clone(), why).help(example()))
                }
                (None, Fetch::Time) => time_span(arguments, span),
                (None, Fetch::Weekday) => weekdays(arguments, span),
                (None, _) => Ok(Check::Flag),
            },
        }
    }

    fn comparison(
        &mut self,
        function: &Function,
        sign: &str,
        place: Range<usize>,
    ) -> Result<Check, ParseError> {
        let (token, span) = self.next();
        match (function.kind, sign, token) {
            (FetchKind::Number, "=~" | "!~", _) | (FetchKind::Address | FetchKind::Flag, ..) => {
                let why = format!("{} cannot be compared with `{sign}`", function.name);
                Err(ParseError::at(place, why).help(format!("such as {}", function.example)))
            }
            (FetchKind::Text, "<" | "<=" | ">" | ">=", _) => {
                let why = format!("{} is a text: `{sign}` compares numbers", function.name);
                Err(ParseError::at(place, why).help("texts have ==, !=, =~ and !~"))
            }
            (FetchKind::Number, _, Token::Number(number)) => Ok(Check::Compare(
                match sign {
                    "==" => Compare::Equal,
                    "!=" => Compare::NotEqual,
                    "<" => Compare::Less,
                    "<=" => Compare::AtMost,
                    ">" => Compare::More,
                    _ => Compare::AtLeast,
                },
                number,
            )),
            (FetchKind::Number, _, token) => Err(self.wrong(&token, span, "a number")),
            (FetchKind::Text, "=~" | "!~", Token::Text(text)) => {
                let regex = regex(&text, function.folds)
                    .map_err(|why| ParseError::at(span, format!("no regular expression: {why}")))?;
                Ok(Check::Regex { regex: Box::new(regex), negated: sign == "!~" })
            }
            (FetchKind::Text, _, Token::Text(text)) => {
                let value = if function.folds { text.to_ascii_lowercase() } else { text };
                Ok(Check::Exact { value: value.into_bytes().into(), negated: sign == "!=" })
            }
            (FetchKind::Text, _, token) => Err(self.wrong(&token, span, "a text in quotes")),
        }
    }
}

enum Value {
    Text(String),
    Number(u64),
}

fn unknown(word: &str, span: Range<usize>) -> ParseError {
    let near =
        FUNCTIONS.iter().min_by_key(|f| distance(f.name, word)).filter(|f| distance(f.name, word) <= 2);
    let problem = ParseError::at(span, format!("there is no function `{word}`"));
    match near {
        Some(function) => problem.help(format!("did you mean `{}`?", function.name)),
        None => {
            let names: Vec<_> = FUNCTIONS.iter().map(|f| f.name).collect();
            problem.help(format!("functions: {}", names.join(", ")))
        }
    }
}

/// Changes that turn one word into the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let here = (corner + usize::from(a != *b)).min(row[j] + 1).min(row[j + 1] + 1);
            corner = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[other.len()]
}

fn check_argument(name: &str, text: &str, place: Range<usize>) -> Result<(), ParseError> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~[]:".contains(&b);
    if text.is_empty() || text.len() > 128 || (name != "SPAN" && name != "DAYS" && !text.bytes().all(token)) {
        return Err(ParseError::at(place, format!("{text:?} is no {name}")));
    }
    if name == "FIELD" && !crate::fetch::is_certificate_field(text) {
        let why = format!("a certificate has no field {text:?}");
        let fields = crate::fetch::CERTIFICATE_FIELDS.join(", ");
        return Err(ParseError::at(place, why).help(format!("fields: {fields}, subject.CN")));
    }
    if name == "COUNTER" && !COUNTERS.contains(&text) && text != "current" {
        let why = format!("there is no counter {text:?}");
        return Err(ParseError::at(place, why).help(format!("counters: {}", COUNTERS.join(", "))));
    }
    Ok(())
}

/// `@/path` names a list in a file.
fn file(text: &str, place: &Range<usize>) -> Result<Option<PathBuf>, ParseError> {
    match text.strip_prefix('@') {
        None => Ok(None),
        Some(path) if path.starts_with('/') => Ok(Some(path.into())),
        Some(_) => Err(ParseError::at(
            place.clone(),
            "a list is named by its absolute path: \"@/etc/evenkeel/list\"",
        )),
    }
}

fn patterns(function: &Function, values: Vec<(Value, Range<usize>)>) -> Result<Check, ParseError> {
    let (mut set, mut globs, mut files) = (PatternSet::new(function.folds), Vec::new(), Vec::new());
    for (value, place) in values {
        let Value::Text(text) = value else {
            return Err(ParseError::at(place, "expected a pattern in quotes"));
        };
        match file(&text, &place)? {
            Some(path) => files.push(List { path, loaded: None }),
            None => {
                if text.contains('*') {
                    let folded = if function.folds { text.to_ascii_lowercase() } else { text.clone() };
                    globs.push(folded.into_bytes().into_boxed_slice());
                }
                set.insert(&text);
            }
        }
    }
    Ok(Check::Patterns { set, globs, files })
}

fn networks(values: Vec<(Value, Range<usize>)>) -> Result<Check, ParseError> {
    let (mut set, mut files) = (NetworkSet::default(), Vec::new());
    for (value, place) in values {
        let Value::Text(text) = value else {
            return Err(ParseError::at(place, "expected a network in quotes"));
        };
        match file(&text, &place)? {
            Some(path) => files.push(List { path, loaded: None }),
            None if set.insert(&text) => {}
            None => {
                let why = format!("{text:?} is no network");
                return Err(ParseError::at(place, why).help("such as \"192.0.2.0/24\" or \"2001:db8::1\""));
            }
        }
    }
    Ok(Check::Networks { set, files })
}

fn time_span(arguments: &[String], span: Range<usize>) -> Result<Check, ParseError> {
    let minutes = |text: &str| {
        let (hours, minutes) = text.trim().split_once(':')?;
        let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
        let good = hours < 24 && minutes < 60 || (hours, minutes) == (24, 0);
        good.then_some(hours * 60 + minutes)
    };
    let text = arguments.first().map_or("", String::as_str);
    let parsed = text.split_once('-').and_then(|(from, to)| Some((minutes(from)?, minutes(to)?)));
    let (from, to) = parsed.ok_or_else(|| {
        ParseError::at(span, format!("{text:?} is no span of the day")).help("such as time(\"08:00-18:30\")")
    })?;
    Ok(Check::Time { from, to })
}

fn weekdays(arguments: &[String], span: Range<usize>) -> Result<Check, ParseError> {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let text = arguments.first().map_or("", String::as_str);
    let day = |word: &str| DAYS.iter().position(|d| *d == word.trim().to_ascii_lowercase());
    let mut mask = 0u8;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Some(first), Some(last)) = (day(first), day(last)) else {
            let problem = ParseError::at(span, format!("{part:?} is no day of the week"));
            return Err(problem.help("such as weekday(\"mon-fri\") or weekday(\"sat,sun\")"));
        };
        let mut at = first;
        loop {
            mask |= 1 << at;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Ok(Check::Weekdays(mask))
}
