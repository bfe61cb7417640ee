//! Nodes and data -> text.

use serde_json::Value;

use super::TemplateError;
use super::function;
use super::parse::{Base, Node, Pipe, Term};

/// What functions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Functions {
    /// Their work.
    Usual,
    /// Those that shape a value give it back as it is.
    Headings,
}

pub(super) fn fill(
    nodes: &[Node],
    data: &Value,
    functions: Functions,
) -> Result<String, TemplateError> {
    let mut filler = Filler {
        functions,
        variables: vec![(String::new(), data.clone())],
        text: String::new(),
    };
    filler.nodes(
        nodes,
        &Dot {
            value: data,
            is_root: true,
        },
    )?;
    Ok(filler.text)
}

struct Dot<'a> {
    value: &'a Value,
    /// Fields of the data itself are known: a name that is none of them is a mistake. Deeper down
    /// are maps, whose keys come and go.
    is_root: bool,
}

/// Whether a loop goes on.
enum Flow {
    On,
    Break,
    Continue,
}

struct Filler {
    functions: Functions,
    /// The innermost last. The one without a name is `$`.
    variables: Vec<(String, Value)>,
    text: String,
}

impl Filler {
    fn nodes(&mut self, nodes: &[Node], dot: &Dot<'_>) -> Result<Flow, TemplateError> {
        for node in nodes {
            match self.node(node, dot)? {
                Flow::On => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Dot<'_>) -> Result<Flow, TemplateError> {
        match node {
            Node::Text(text) => self.text.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                self.text.push_str(&function::show(&value));
            }
            Node::Set { name, pipe } => {
                let value = self.pipe(pipe, dot)?;
                match self
                    .variables
                    .iter_mut()
                    .rev()
                    .find(|(known, _)| known == name && !name.is_empty())
                {
                    Some((_, known)) => *known = value,
                    None => self.variables.push((name.clone(), value)),
                }
            }
            Node::If {
                pipe,
                then,
                otherwise,
            } => {
                let chosen = if function::is_true(&self.pipe(pipe, dot)?) {
                    then
                } else {
                    otherwise
                };
                return self.scoped(chosen, dot);
            }
            Node::With {
                pipe,
                then,
                otherwise,
            } => {
                let value = self.pipe(pipe, dot)?;
                return match function::is_true(&value) {
                    true => self.scoped(
                        then,
                        &Dot {
                            value: &value,
                            is_root: false,
                        },
                    ),
                    false => self.scoped(otherwise, dot),
                };
            }
            Node::Range {
                names,
                pipe,
                then,
                otherwise,
            } => {
                let elements = elements(self.pipe(pipe, dot)?)?;
                if elements.is_empty() {
                    return self.scoped(otherwise, dot);
                }
                return self.range(names, elements, then);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// Variables set within end with it.
    fn scoped(&mut self, nodes: &[Node], dot: &Dot<'_>) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        let flow = self.nodes(nodes, dot);
        self.variables.truncate(outer);
        flow
    }

    fn range(
        &mut self,
        names: &[String],
        elements: Vec<(Value, Value)>,
        body: &[Node],
    ) -> Result<Flow, TemplateError> {
        let outer = self.variables.len();
        for (key, value) in elements {
            match names {
                [] => {}
                [only] => self.variables.push((only.clone(), value.clone())),
                [first, second, ..] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
            }
            let flow = self.nodes(
                body,
                &Dot {
                    value: &value,
                    is_root: false,
                },
            );
            self.variables.truncate(outer);
            if matches!(flow?, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipe(&self, pipe: &Pipe, dot: &Dot<'_>) -> Result<Value, TemplateError> {
        let mut piped = None;
        for command in &pipe.0 {
            piped = Some(self.command(command, piped, dot)?);
        }
        Ok(piped.unwrap_or(Value::Null))
    }

    fn command(
        &self,
        terms: &[Term],
        piped: Option<Value>,
        dot: &Dot<'_>,
    ) -> Result<Value, TemplateError> {
        let Some((first, rest)) = terms.split_first() else {
            return Ok(Value::Null);
        };
        let arguments = rest
            .iter()
            .map(|term| self.term(term, dot))
            .chain(piped.map(Ok));
        let arguments: Vec<Value> = arguments.collect::<Result<_, _>>()?;
        if let Base::Function(name) = &first.base {
            let value = self.call(name, arguments)?;
            return fields(value, &first.fields, false);
        }
        let value = self.term(first, dot)?;
        match arguments.as_slice() {
            [] => Ok(value),
            // `.Label "key"`: docker's methods that take a key.
            _ => function::call("index", [vec![value], arguments].concat()),
        }
    }

    fn call(&self, name: &str, mut arguments: Vec<Value>) -> Result<Value, TemplateError> {
        if self.functions == Functions::Headings && function::shapes(name) && !arguments.is_empty()
        {
            return Ok(arguments.swap_remove(0));
        }
        function::call(name, arguments)
    }

    fn term(&self, term: &Term, dot: &Dot<'_>) -> Result<Value, TemplateError> {
        let (value, strict) = match &term.base {
            Base::Dot => (dot.value.clone(), dot.is_root),
            Base::Variable(name) => (self.variable(name)?, name.is_empty()),
            Base::Literal(value) => (value.clone(), false),
            Base::Nested(pipe) => (self.pipe(pipe, dot)?, false),
            Base::Function(name) => (self.call(name, Vec::new())?, false),
        };
        fields(value, &term.fields, strict)
    }

    fn variable(&self, name: &str) -> Result<Value, TemplateError> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.clone())
            .ok_or_else(|| TemplateError::Variable(name.to_owned()))
    }
}

fn fields(mut value: Value, names: &[String], mut strict: bool) -> Result<Value, TemplateError> {
    for name in names {
        value = match value {
            Value::Object(mut map) => match map.remove(name) {
                Some(inner) => inner,
                None if strict => {
                    let known = map.keys().cloned().collect();
                    return Err(TemplateError::Field {
                        field: name.clone(),
                        known,
                    });
                }
                None => Value::Null,
            },
            Value::Null => Value::Null,
            other => {
                let why = format!("`{}` has no fields", function::show(&other));
                return Err(TemplateError::Call {
                    function: name.clone(),
                    why,
                });
            }
        };
        strict = false;
    }
    Ok(value)
}

/// Keys and values in Go's order: maps go by their sorted keys.
fn elements(value: Value) -> Result<Vec<(Value, Value)>, TemplateError> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => Ok(items
            .into_iter()
            .enumerate()
            .map(|(at, item)| (at.into(), item))
            .collect()),
        Value::Object(map) => {
            let mut pairs: Vec<(String, Value)> = map.into_iter().collect();
            pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
            Ok(pairs
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect())
        }
        other => {
            let why = format!("cannot go through {}", function::show(&other));
            Err(TemplateError::Call {
                function: "range".to_owned(),
                why,
            })
        }
    }
}
