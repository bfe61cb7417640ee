//! Ops as others are told of them: nothing that is secret is in it.

use serde_json::Value;

use crate::Op;
use crate::graph::without_credentials;

/// An op as JSON, without what whoever builds keeps to himself: names and passwords in the addresses
/// of sources, and proxies, which have them as well.
pub fn told(op: &Op) -> Value {
    let mut op = op.clone();
    if let Op::Exec(exec) = &mut op {
        exec.unkeyed_env.clear();
    }
    let mut value = serde_json::to_value(&op).unwrap_or_default();
    if let Op::Source(_) = op {
        clean(&mut value);
    }
    value
}

/// Takes names and passwords out of addresses.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => *text = without_credentials(text),
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => fields.values_mut().for_each(clean),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{HttpSource, Source};

    #[test]
    fn passwords_of_addresses_are_not_told() {
        let http = HttpSource {
            url: "https://user:canary@host/file".to_owned(),
            checksum: None,
            filename: "file".to_owned(),
            mode: 0o600,
            owner: (0, 0),
            pin: None,
        };
        let told = told(&Op::Source(Source::Http(http))).to_string();
        assert!(
            told.contains("https://host/file") && !told.contains("canary"),
            "{told}"
        );
    }
}
