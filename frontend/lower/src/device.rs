//! The value of `RUN --device`: what the step is lent of the machine's devices.

use dockerfile_parser::{Case, suggest};
use llb::op::Device;

use crate::mount::{self, MountError};

/// Why a value is none, in BuildKit's words where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// It is no list with commas between.
    #[error("failed to parse csv devices: {0}")]
    List(MountError),
    /// A key that no device has.
    #[error("unexpected key '{key}' in '{text}'{}", hint(.suggestion))]
    Key {
        /// As written.
        key: String,
        /// What it stands in.
        text: String,
        /// What was meant.
        suggestion: Option<String>,
    },
    /// A second name.
    #[error("device name already set to {0}: one flag is for one device")]
    Name(String),
    /// Neither true nor false.
    #[error("invalid value for required: {0}: it is true or false")]
    Required(String),
    /// What no device can be called.
    #[error(
        "invalid device {0:?}: it is VENDOR/CLASS=NAME or VENDOR/CLASS, as in vendor.example/gpu=0"
    )]
    Invalid(String),
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map_or(": it is name or required".to_owned(), |it| {
            format!(" (did you mean {it}?)")
        })
}

const KEYS: [&str; 2] = ["name", "required"];

/// Reads `NAME`, `NAME,required`, `name=NAME,required=BOOL`.
pub(crate) fn read(text: &str) -> Result<Device, DeviceError> {
    let (mut name, mut required) = (None, false);
    for field in mount::fields(text).map_err(DeviceError::List)? {
        let named = match (&*field.key, &field.value) {
            ("required", value) => {
                required = is_true(value.as_deref())?;
                continue;
            }
            ("name", Some(value)) => value.to_string(),
            // A name has a `=` of its own.
            _ if name.is_none() => field.text().to_owned(),
            (key, _) => {
                return Err(DeviceError::Key {
                    suggestion: suggest(key, KEYS, Case::Insensitive),
                    text: field.text().to_owned(),
                    key: key.to_owned(),
                });
            }
        };
        if let Some(name) = name {
            return Err(DeviceError::Name(name));
        }
        name = Some(named);
    }
    let name = name.unwrap_or_default();
    match is_name(&name) {
        true => Ok(Device { name, required }),
        false => Err(DeviceError::Invalid(name)),
    }
}

fn is_true(value: Option<&str>) -> Result<bool, DeviceError> {
    match value {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(DeviceError::Required(other.to_owned())),
    }
}

/// `VENDOR/CLASS[=NAME]`, as the container device interface has it.
fn is_name(text: &str) -> bool {
    let (class, name) = match text.split_once('=') {
        Some((class, name)) => (class, Some(name)),
        None => (text, None),
    };
    let is_word = |text: &str, others: &str| {
        let fits = |it: char| it.is_ascii_alphanumeric() || others.contains(it);
        let edge = |it: Option<char>| it.is_some_and(|it| it.is_ascii_alphanumeric());
        edge(text.chars().next()) && edge(text.chars().last()) && text.chars().all(fits)
    };
    let begins = |text: &str| text.starts_with(|it: char| it.is_ascii_alphabetic());
    let has_class = class.split_once('/').is_some_and(|(vendor, class)| {
        begins(vendor) && is_word(vendor, "_-.") && begins(class) && is_word(class, "_-.")
    });
    has_class && name.is_none_or(|it| it == "*" || is_word(it, "_-.:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_name_and_perhaps_required() {
        let table = [
            ("v.com/gpu", "v.com/gpu false"),
            ("v.com/gpu=all", "v.com/gpu=all false"),
            ("v.com/gpu=*,required", "v.com/gpu=* true"),
            ("required,name=v.com/gpu=0:1", "v.com/gpu=0:1 true"),
            ("required=F,v.com/gpu", "v.com/gpu false"),
            (
                "required=maybe,v.com/gpu",
                "invalid value for required: maybe: it is true or false",
            ),
            (
                "v.com/gpu,requird=true",
                "unexpected key 'requird' in 'requird=true' (did you mean required?)",
            ),
            (
                "v.com/gpu,more",
                "unexpected key 'more' in 'more': it is name or required",
            ),
            (
                "v.com/gpu,name=v.com/x",
                "device name already set to v.com/gpu: one flag is for one device",
            ),
            (
                "gpu",
                "invalid device \"gpu\": it is VENDOR/CLASS=NAME or VENDOR/CLASS, as in vendor.example/gpu=0",
            ),
            (
                "v/c=../x",
                "invalid device \"v/c=../x\": it is VENDOR/CLASS=NAME or VENDOR/CLASS, as in vendor.example/gpu=0",
            ),
            (
                "required",
                "invalid device \"\": it is VENDOR/CLASS=NAME or VENDOR/CLASS, as in vendor.example/gpu=0",
            ),
        ];
        for (text, expected) in table {
            let read = match read(text) {
                Ok(device) => format!("{} {}", device.name, device.required),
                Err(error) => error.to_string(),
            };
            assert_eq!(read, expected, "{text}");
        }
    }
}
