//! Words, strings, numbers and signs of an expression, each with its place.

use std::ops::Range;

use crate::parse::ParseError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Word(String),
    Text(String),
    Number(u64),
    Sign(&'static str),
    End,
}

impl Token {
    pub fn describe(&self) -> String {
        match self {
            Token::Word(word) => format!("`{word}`"),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Number(number) => format!("the number {number}"),
            Token::Sign(sign) => format!("`{sign}`"),
            Token::End => "the end".into(),
        }
    }
}

const SIGNS: [&str; 14] = ["&&", "||", "==", "!=", "<=", ">=", "=~", "!~", "<", ">", "!", "(", ")", ","];

pub fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, ParseError> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let start = at;
        let token = match first {
            c if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' => {
                let (value, length) = string(rest).map_err(|why| ParseError::at(start..text.len(), why))?;
                at += length;
                Token::Text(value)
            }
            '0'..='9' => {
                at += rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let number = text[start..at]
                    .parse()
                    .map_err(|_| ParseError::at(start..at, "the number is too large"))?;
                Token::Number(number)
            }
            c if c.is_ascii_alphabetic() => {
                at += rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
                    .unwrap_or(rest.len());
                match &text[start..at] {
                    "and" => Token::Sign("&&"),
                    "or" => Token::Sign("||"),
                    "not" => Token::Sign("!"),
                    word => Token::Word(word.to_owned()),
                }
            }
            c => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
                Some(sign) => {
                    at += sign.len();
                    Token::Sign(sign)
                }
                None => {
                    let help = "texts stand in double quotes; signs are && || ! == != < <= > >= =~ !~ ( ) ,";
                    return Err(ParseError::at(
                        start..start + c.len_utf8(),
                        format!("{c:?} means nothing here"),
                    )
                    .help(help));
                }
            },
        };
        all.push((token, start..at));
    }
    all.push((Token::End, text.len()..text.len()));
    Ok(all)
}

/// A text in quotes: `\"` and `\\` stand for the sign, other backslashes for themselves.
fn string(text: &str) -> Result<(String, usize), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, at + 1)),
            '\\' => match chars.peek() {
                Some((_, escaped @ ('"' | '\\'))) => {
                    value.push(*escaped);
                    chars.next();
                }
                _ => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    Err("the text has no closing quote")
}
