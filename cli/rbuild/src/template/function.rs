//! The functions of templates: Go's own and docker's.

use std::cmp::Ordering;
use std::fmt::Write as _;

use serde_json::Value;

use super::TemplateError;

/// Calls a function.
pub(super) fn call(name: &str, arguments: Vec<Value>) -> Result<Value, TemplateError> {
    let outcome = match name {
        "json" => one(arguments).map(|value| value.to_string().into()),
        "lower" => one_text(arguments).map(|text| text.to_lowercase().into()),
        "upper" => one_text(arguments).map(|text| text.to_uppercase().into()),
        "title" => one_text(arguments).map(|text| title(&text).into()),
        "join" => two(arguments).and_then(|(list, separator)| join(&list, &show(&separator))),
        "split" => two(arguments).map(|(text, separator)| split(&show(&text), &show(&separator))),
        "truncate" => two(arguments).and_then(|(text, length)| truncate(&text, &length)),
        "pad" => pad(&arguments),
        "len" => one(arguments).and_then(|value| length(&value)),
        "index" => index(arguments),
        "slice" => slice(&arguments),
        "print" => Ok(print(&arguments).into()),
        "println" => Ok(format!("{}\n", spaced(&arguments)).into()),
        "printf" => printf(&arguments),
        "not" => one(arguments).map(|value| (!is_true(&value)).into()),
        "and" => choose(arguments, |value| !is_true(value)),
        "or" => choose(arguments, is_true),
        "eq" => equal_to_one(&arguments),
        "ne" => two(arguments).map(|(a, b)| (compare(&a, &b) != Some(Ordering::Equal)).into()),
        "lt" => ordered(arguments, Ordering::is_lt),
        "le" => ordered(arguments, Ordering::is_le),
        "gt" => ordered(arguments, Ordering::is_gt),
        "ge" => ordered(arguments, Ordering::is_ge),
        _ => return Err(TemplateError::Function(name.to_owned())),
    };
    outcome.map_err(|why| TemplateError::Call {
        function: name.to_owned(),
        why,
    })
}

/// Whether a function only gives its first argument another shape.
pub(super) fn shapes(name: &str) -> bool {
    matches!(
        name,
        "json" | "lower" | "upper" | "title" | "join" | "split" | "truncate" | "pad"
    )
}

/// A value as Go prints it.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", spaced(items)),
        Value::Object(map) => {
            let mut pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", show(value)))
                .collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Whether a value is true to `if`: neither empty, zero nor nothing.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(it) => *it,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn wants(count: usize, got: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("wants {count} argument{plural}, got {got}")
}

fn one(arguments: Vec<Value>) -> Result<Value, String> {
    let [value] = <[Value; 1]>::try_from(arguments).map_err(|them| wants(1, them.len()))?;
    Ok(value)
}

fn one_text(arguments: Vec<Value>) -> Result<String, String> {
    one(arguments).map(|value| show(&value))
}

fn two(arguments: Vec<Value>) -> Result<(Value, Value), String> {
    let [first, second] = <[Value; 2]>::try_from(arguments).map_err(|them| wants(2, them.len()))?;
    Ok((first, second))
}

fn count(value: &Value) -> Result<usize, String> {
    let whole = value
        .as_u64()
        .ok_or_else(|| format!("wants a number, got {}", show(value)))?;
    usize::try_from(whole).map_err(|_| format!("{whole} is too large"))
}

fn title(text: &str) -> String {
    let mut previous = ' ';
    let capital = |character: char| {
        let starts = !previous.is_alphanumeric();
        previous = character;
        if starts {
            character.to_uppercase().collect()
        } else {
            character.to_string()
        }
    };
    text.chars().map(capital).collect()
}

fn join(list: &Value, separator: &str) -> Result<Value, String> {
    match list {
        Value::Array(items) => Ok(items
            .iter()
            .map(show)
            .collect::<Vec<_>>()
            .join(separator)
            .into()),
        Value::Null => Ok("".into()),
        other => Err(format!("wants a list, got {}", show(other))),
    }
}

fn split(text: &str, separator: &str) -> Value {
    match separator {
        "" => text.chars().map(String::from).collect(),
        _ => text.split(separator).collect(),
    }
}

fn truncate(text: &Value, length: &Value) -> Result<Value, String> {
    Ok(show(text)
        .chars()
        .take(count(length)?)
        .collect::<String>()
        .into())
}

/// The most blanks that `pad` and `printf` add; a template is no way to fill the memory.
const MAX_PAD: usize = 1000;

fn pad(arguments: &[Value]) -> Result<Value, String> {
    let [text, before, after] = arguments else {
        return Err(wants(3, arguments.len()));
    };
    let blanks = |number: &Value| count(number).map(|it| " ".repeat(it.min(MAX_PAD)));
    // Docker leaves an empty text empty.
    let text = show(text);
    if text.is_empty() {
        return Ok(text.into());
    }
    Ok(format!("{}{text}{}", blanks(before)?, blanks(after)?).into())
}

fn length(value: &Value) -> Result<Value, String> {
    match value {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(map) => Ok(map.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("{} has no length", show(other))),
    }
}

fn index(arguments: Vec<Value>) -> Result<Value, String> {
    let mut arguments = arguments.into_iter();
    let mut value = arguments.next().ok_or_else(|| wants(1, 0))?;
    for key in arguments {
        value = match value {
            Value::Object(mut map) => map.remove(&show(&key)).unwrap_or_else(|| "".into()),
            Value::Array(mut items) => {
                let (at, length) = (count(&key)?, items.len());
                if at >= length {
                    return Err(format!("{at} is out of range, there are {length}"));
                }
                items.swap_remove(at)
            }
            Value::Null => "".into(),
            other => return Err(format!("{} has no elements", show(&other))),
        };
    }
    Ok(value)
}

fn slice(arguments: &[Value]) -> Result<Value, String> {
    let (value, bounds) = arguments.split_first().ok_or_else(|| wants(1, 0))?;
    let bounds: Vec<usize> = bounds.iter().map(count).collect::<Result<_, _>>()?;
    let from = bounds.first().copied().unwrap_or(0);
    let to = bounds.get(1).copied();
    let wrong = || {
        format!(
            "{from}:{} is out of range",
            to.map_or_else(String::new, |it| it.to_string())
        )
    };
    match value {
        Value::String(text) => Ok(text
            .get(from..to.unwrap_or(text.len()))
            .ok_or_else(wrong)?
            .into()),
        Value::Array(items) => Ok(items
            .get(from..to.unwrap_or(items.len()))
            .ok_or_else(wrong)?
            .to_vec()
            .into()),
        other => Err(format!("cannot take a part of {}", show(other))),
    }
}

/// Go's `Sprint`: a blank between two operands when neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (position, value) in arguments.iter().enumerate() {
        if position > 0 && !value.is_string() && !arguments[position - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&show(value));
    }
    text
}

fn spaced(values: &[Value]) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// `%s %v %d %q %t %f %%` with `-`, a width and a precision.
fn printf(arguments: &[Value]) -> Result<Value, String> {
    let (format, values) = arguments.split_first().ok_or_else(|| wants(1, 0))?;
    let format = show(format);
    let mut values = values.iter();
    let mut text = String::new();
    let mut pieces = format.split('%');
    text.push_str(pieces.next().unwrap_or_default());
    while let Some(piece) = pieces.next() {
        if piece.is_empty() {
            text.push('%');
            text.push_str(pieces.next().unwrap_or_default());
            continue;
        }
        let end = piece
            .find(|it: char| it.is_alphabetic())
            .ok_or_else(|| format!("`%{piece}` has no verb"))?;
        let verb_length = piece[end..].chars().next().map_or(1, char::len_utf8);
        let value = values
            .next()
            .ok_or_else(|| format!("`%{}` has no value", &piece[..end + verb_length]))?;
        text.push_str(&directive(
            &piece[..end],
            &piece[end..end + verb_length],
            value,
        )?);
        text.push_str(&piece[end + verb_length..]);
    }
    Ok(text.into())
}

fn directive(flags: &str, verb: &str, value: &Value) -> Result<String, String> {
    let (left, numbers) = flags
        .strip_prefix('-')
        .map_or((false, flags), |numbers| (true, numbers));
    let (width, precision) = numbers
        .split_once('.')
        .map_or((numbers, None), |(a, b)| (a, Some(b)));
    let number = |digits: &str| match digits {
        "" => Ok(0),
        digits => digits
            .parse::<usize>()
            .map(|it| it.min(MAX_PAD))
            .map_err(|_| format!("`%{flags}{verb}` is not known")),
    };
    let precision = precision.map(number).transpose()?;
    let shown = match verb {
        "s" | "v" | "d" | "t" => show(value),
        "q" => Value::from(show(value)).to_string(),
        "f" => format!(
            "{:.*}",
            precision.unwrap_or(6),
            value.as_f64().unwrap_or_default()
        ),
        _ => return Err(format!("`%{flags}{verb}` is not known")),
    };
    let shown: String = match precision.filter(|_| verb == "s") {
        Some(most) => shown.chars().take(most).collect(),
        None => shown,
    };
    let width = number(width)?;
    let mut text = String::new();
    let _ = if left {
        write!(text, "{shown:<width$}")
    } else {
        write!(text, "{shown:>width$}")
    };
    Ok(text)
}

/// The first value that is `wanted`, or the last.
fn choose(arguments: Vec<Value>, wanted: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let position = arguments
        .iter()
        .position(wanted)
        .or(arguments.len().checked_sub(1));
    position
        .and_then(|at| arguments.into_iter().nth(at))
        .ok_or_else(|| wants(1, 0))
}

fn equal_to_one(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [first, others @ ..] if !others.is_empty() => Ok(others
            .iter()
            .any(|other| compare(first, other) == Some(Ordering::Equal))
            .into()),
        _ => Err(wants(2, arguments.len())),
    }
}

fn ordered(arguments: Vec<Value>, wanted: fn(Ordering) -> bool) -> Result<Value, String> {
    let (a, b) = two(arguments)?;
    let order =
        compare(&a, &b).ok_or_else(|| format!("cannot compare {} with {}", show(&a), show(&b)))?;
    Ok(wanted(order).into())
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        _ if a == b => Some(Ordering::Equal),
        _ => None,
    }
}
