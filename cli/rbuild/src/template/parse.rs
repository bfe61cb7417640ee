//! Text -> nodes.

use serde_json::Value;

use super::TemplateError;

/// A piece of a template.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// Text as it stands.
    Text(String),
    /// `{{pipe}}`
    Print(Pipe),
    /// `{{$name := pipe}}`, `{{$name = pipe}}`
    Set { name: String, pipe: Pipe },
    /// `{{if pipe}}…{{else}}…{{end}}`
    If {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `{{with pipe}}…{{else}}…{{end}}`
    With {
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `{{range $key, $value := pipe}}…{{else}}…{{end}}`
    Range {
        names: Vec<String>,
        pipe: Pipe,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `{{break}}`
    Break,
    /// `{{continue}}`
    Continue,
}

/// Commands, each of which gets the value of the one before as its last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipe(pub(super) Vec<Vec<Term>>);

/// A value with the fields that are taken of it.
#[derive(Debug, Clone)]
pub(super) struct Term {
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    /// `.`
    Dot,
    /// `$name`; `$` alone has the empty name and is the template's data.
    Variable(String),
    Literal(Value),
    Function(String),
    /// `(pipe)`
    Nested(Pipe),
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser { rest: text };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End(at) | Stop::Else(at, _) => Err(syntax("there is nothing to end", at)),
    }
}

fn syntax(why: &'static str, at: &str) -> TemplateError {
    TemplateError::Syntax {
        why,
        at: at.to_owned(),
    }
}

/// What ended a run of nodes, with the text where it stands.
enum Stop<'a> {
    Text,
    End(&'a str),
    /// With the chained condition of `{{else if …}}`.
    Else(&'a str, Option<Node>),
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop<'a>), TemplateError> {
        let mut nodes = Vec::new();
        loop {
            let Some((text, action)) = self.rest.split_once("{{") else {
                push_text(&mut nodes, self.rest);
                self.rest = "";
                return Ok((nodes, Stop::Text));
            };
            let at = &self.rest[text.len()..];
            let trims = action
                .strip_prefix('-')
                .filter(|it| it.starts_with(char::is_whitespace));
            push_text(
                &mut nodes,
                if trims.is_some() {
                    text.trim_end()
                } else {
                    text
                },
            );
            self.rest = trims.unwrap_or(action);
            self.blanks();
            if self.comment(at)? {
                continue;
            }
            match self.keyword() {
                "end" => {
                    self.close(at)?;
                    return Ok((nodes, Stop::End(at)));
                }
                "else" => {
                    self.blanks();
                    let chained = match self.keyword() {
                        "if" => Some(self.condition(at)?),
                        _ => {
                            self.close(at)?;
                            None
                        }
                    };
                    return Ok((nodes, Stop::Else(at, chained)));
                }
                "if" => nodes.push(self.condition(at)?),
                "with" => nodes.push(self.with(at)?),
                "range" => nodes.push(self.range(at)?),
                "break" => nodes.push(self.closed(at, Node::Break)?),
                "continue" => nodes.push(self.closed(at, Node::Continue)?),
                _ => nodes.push(self.action(at)?),
            }
        }
    }

    fn comment(&mut self, at: &'a str) -> Result<bool, TemplateError> {
        let Some(comment) = self.rest.strip_prefix("/*") else {
            return Ok(false);
        };
        let (_, behind) = comment
            .split_once("*/")
            .ok_or_else(|| syntax("a comment is not closed", at))?;
        self.rest = behind;
        self.close(at)?;
        Ok(true)
    }

    /// Takes the keyword that stands here; empty, and nothing taken, where there is none.
    fn keyword(&mut self) -> &'static str {
        let word = self
            .rest
            .find(|it: char| !it.is_ascii_alphabetic())
            .map_or(self.rest, |end| &self.rest[..end]);
        let keywords = ["end", "else", "if", "with", "range", "break", "continue"];
        let keyword = keywords
            .into_iter()
            .find(|known| *known == word)
            .unwrap_or_default();
        self.rest = &self.rest[keyword.len()..];
        keyword
    }

    fn condition(&mut self, at: &'a str) -> Result<Node, TemplateError> {
        let pipe = self.closed_pipe(at)?;
        let (then, otherwise) = self.branches()?;
        Ok(Node::If {
            pipe,
            then,
            otherwise,
        })
    }

    fn with(&mut self, at: &'a str) -> Result<Node, TemplateError> {
        let pipe = self.closed_pipe(at)?;
        let (then, otherwise) = self.branches()?;
        Ok(Node::With {
            pipe,
            then,
            otherwise,
        })
    }

    fn range(&mut self, at: &'a str) -> Result<Node, TemplateError> {
        let before = self.rest;
        let mut names = Vec::new();
        self.blanks();
        while let Some(name) = self.variable() {
            names.push(name);
            self.blanks();
            if !self.take(",") {
                break;
            }
            self.blanks();
        }
        if !self.take(":=") {
            self.rest = before;
            names.clear();
        }
        let pipe = self.closed_pipe(at)?;
        let (then, otherwise) = self.branches()?;
        Ok(Node::Range {
            names,
            pipe,
            then,
            otherwise,
        })
    }

    fn branches(&mut self) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let (then, end) = self.nodes()?;
        match end {
            Stop::Text => Err(syntax("`{{end}}` is missing", "")),
            Stop::End(_) => Ok((then, Vec::new())),
            // `{{else if}}` has taken the `{{end}}` of the whole.
            Stop::Else(_, Some(chained)) => Ok((then, vec![chained])),
            Stop::Else(_, None) => match self.nodes()? {
                (otherwise, Stop::End(_)) => Ok((then, otherwise)),
                (_, Stop::Text) => Err(syntax("`{{end}}` is missing", "")),
                (_, Stop::Else(at, _)) => Err(syntax("a second `{{else}}`", at)),
            },
        }
    }

    fn action(&mut self, at: &'a str) -> Result<Node, TemplateError> {
        let before = self.rest;
        if let Some(name) = self.variable() {
            self.blanks();
            if self.take(":=") || self.take("=") {
                return Ok(Node::Set {
                    name,
                    pipe: self.closed_pipe(at)?,
                });
            }
            self.rest = before;
        }
        Ok(Node::Print(self.closed_pipe(at)?))
    }

    fn closed_pipe(&mut self, at: &'a str) -> Result<Pipe, TemplateError> {
        let pipe = self.pipe(at)?;
        self.close(at)?;
        Ok(pipe)
    }

    fn closed(&mut self, at: &'a str, node: Node) -> Result<Node, TemplateError> {
        self.close(at)?;
        Ok(node)
    }

    /// Takes `}}` or ` -}}`.
    fn close(&mut self, at: &'a str) -> Result<(), TemplateError> {
        self.blanks();
        if self.take("-}}") {
            self.rest = self.rest.trim_start();
            return Ok(());
        }
        if self.take("}}") {
            return Ok(());
        }
        Err(match self.rest {
            "" => syntax("an action is not closed", at),
            rest => syntax("this is no value", rest),
        })
    }

    fn pipe(&mut self, at: &'a str) -> Result<Pipe, TemplateError> {
        let mut commands = Vec::new();
        loop {
            commands.push(self.command(at)?);
            if !self.take("|") {
                return Ok(Pipe(commands));
            }
        }
    }

    fn command(&mut self, at: &'a str) -> Result<Vec<Term>, TemplateError> {
        let mut terms = Vec::new();
        loop {
            self.blanks();
            match self.term(at)? {
                Some(term) => terms.push(term),
                None if terms.is_empty() && self.rest.is_empty() => {
                    return Err(syntax("an action is not closed", at));
                }
                None if terms.is_empty() && self.rest.starts_with(['}', '|', '-']) => {
                    return Err(syntax("an action is empty", self.rest));
                }
                None if terms.is_empty() => return Err(syntax("this is no value", self.rest)),
                None => return Ok(terms),
            }
        }
    }

    fn term(&mut self, at: &'a str) -> Result<Option<Term>, TemplateError> {
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        let base = match first {
            '.' => {
                // `.Name` is a field of the dot: the fields below take it.
                if !self.rest[1..].starts_with(is_word) {
                    self.rest = &self.rest[1..];
                }
                Base::Dot
            }
            '$' => Base::Variable(self.variable().unwrap_or_default()),
            '(' => {
                self.rest = &self.rest[1..];
                let pipe = self.pipe(at)?;
                self.blanks();
                if !self.take(")") {
                    return Err(syntax("`)` is missing", self.rest));
                }
                Base::Nested(pipe)
            }
            '"' => Base::Literal(self.quoted()?),
            '`' => Base::Literal(self.raw()?),
            _ => match self.number().or_else(|| self.word()) {
                Some(base) => base,
                None => return Ok(None),
            },
        };
        Ok(Some(Term {
            base,
            fields: self.fields(),
        }))
    }

    fn fields(&mut self) -> Vec<String> {
        let mut fields = Vec::new();
        while let Some(behind) = self.rest.strip_prefix('.')
            && behind.starts_with(is_word)
        {
            self.rest = behind;
            fields.push(self.name());
        }
        fields
    }

    fn variable(&mut self) -> Option<String> {
        self.rest = self.rest.strip_prefix('$')?;
        Some(self.name())
    }

    fn word(&mut self) -> Option<Base> {
        let name = self.name();
        match name.as_str() {
            "" => None,
            "true" => Some(Base::Literal(true.into())),
            "false" => Some(Base::Literal(false.into())),
            "nil" => Some(Base::Literal(Value::Null)),
            _ => Some(Base::Function(name)),
        }
    }

    fn name(&mut self) -> String {
        let end = self.rest.find(|it| !is_word(it)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    fn number(&mut self) -> Option<Base> {
        let digits = self.rest.strip_prefix('-').unwrap_or(self.rest);
        if !digits.starts_with(|it: char| it.is_ascii_digit()) {
            return None;
        }
        let sign = self.rest.len() - digits.len();
        let length = digits
            .find(|it: char| !it.is_ascii_digit() && it != '.')
            .unwrap_or(digits.len());
        let (text, rest) = self.rest.split_at(sign + length);
        let value: Value = match text.parse::<i64>() {
            Ok(whole) => whole.into(),
            Err(_) => text.parse::<f64>().ok()?.into(),
        };
        self.rest = rest;
        Some(Base::Literal(value))
    }

    fn quoted(&mut self) -> Result<Value, TemplateError> {
        let at = self.rest;
        let mut text = String::new();
        let mut characters = at.char_indices().skip(1);
        while let Some((position, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &at[position + 1..];
                    return Ok(text.into());
                }
                '\\' => text.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, 'r')) => '\r',
                    Some((_, other)) => other,
                    None => break,
                }),
                other => text.push(other),
            }
        }
        Err(syntax("a quoted text is not closed", at))
    }

    fn raw(&mut self) -> Result<Value, TemplateError> {
        let at = self.rest;
        let (text, rest) = at[1..]
            .split_once('`')
            .ok_or_else(|| syntax("a quoted text is not closed", at))?;
        self.rest = rest;
        Ok(text.into())
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        let behind = self.rest.strip_prefix(token);
        self.rest = behind.unwrap_or(self.rest);
        behind.is_some()
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if !text.is_empty() {
        nodes.push(Node::Text(text.to_owned()));
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
