//! A build as one JSON object an event, in the shape of BuildKit's status updates.

use std::time::SystemTime;

use oci::Key;
use serde_json::{Value, json};
use solve::progress::{Log, Progress, Stream, TransferStatus, VertexError, VertexStatus, Warning};

/// The line that tells an event, with its newline.
pub(crate) fn line(event: &Progress) -> String {
    let (list, item) = match event {
        Progress::Vertex(status) => ("vertexes", vertex(status)),
        Progress::Transfer(status) => ("statuses", transfer(status)),
        Progress::Log(entry) => ("logs", log(entry)),
        Progress::Warning(it) => ("warnings", warning(it)),
    };
    format!("{}\n", json!({ list: [without_nulls(item)] }))
}

fn vertex(status: &VertexStatus) -> Value {
    json!({
        "digest": digest(&status.digest),
        "inputs": match &status.inputs[..] {
            [] => Value::Null,
            inputs => inputs.iter().map(digest).collect(),
        },
        "name": status.name,
        "started": status.started.map(time),
        "completed": status.completed.map(time),
        "cached": status.cached.then_some(true),
        "error": match &status.error {
            None => Value::Null,
            Some(VertexError::Canceled) => "context canceled".into(),
            Some(VertexError::Failed(message)) => message.as_str().into(),
        },
    })
}

fn transfer(status: &TransferStatus) -> Value {
    json!({
        "id": status.name,
        "vertex": digest(&status.vertex),
        "total": (status.total > 0).then_some(status.total),
        "current": status.current,
        "timestamp": time(status.completed.unwrap_or(status.started)),
        "started": time(status.started),
        "completed": status.completed.map(time),
    })
}

fn log(entry: &Log) -> Value {
    json!({
        "vertex": digest(&entry.vertex),
        "stream": match entry.stream { Stream::Stdout => 1, Stream::Stderr => 2 },
        "data": base64(&entry.data),
        "timestamp": time(entry.timestamp),
    })
}

/// A warning as BuildKit has it.
pub(crate) fn warning(warning: &Warning) -> Value {
    without_nulls(json!({
        "level": 1,
        "short": base64(short(warning).as_bytes()),
        "url": (!warning.url.is_empty()).then_some(&warning.url),
        "sourceInfo": warning.place.as_ref().map(|(file, _)| json!({ "filename": file })),
        "range": warning.place.as_ref().map(|(_, lines)| json!([{
            "start": { "line": lines.first_line },
            "end": { "line": lines.last_line },
        }])),
    }))
}

fn short(warning: &Warning) -> String {
    match (&warning.rule[..], &warning.place) {
        ("", _) => warning.message.clone(),
        (rule, Some((_, lines))) => {
            format!("{rule}: {} (line {})", warning.message, lines.first_line)
        }
        (rule, None) => format!("{rule}: {}", warning.message),
    }
}

/// Fields without a value are left out, as Go does.
fn without_nulls(mut item: Value) -> Value {
    if let Value::Object(fields) = &mut item {
        fields.retain(|_, value| !value.is_null());
    }
    item
}

fn digest(key: &Key) -> String {
    format!("blake3:{key}")
}

fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map(|it| it.to_string())
        .unwrap_or_default()
}

/// Standard base64 with padding, as Go writes bytes into JSON.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            text.push(if digit > chunk.len() {
                '='
            } else {
                DIGITS[value as usize].into()
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in table {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }
}
