//! What `RUN --mount=…` says (A.3).

use std::borrow::Cow;

use dockerfile_parser::{Case, suggest};
use llb::op::Sharing;

/// A `--mount`, read. Paths are as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: Kind,
    /// The stage or image that is mounted.
    pub(crate) from: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) target: String,
    pub(crate) read_only: bool,
    pub(crate) id: Option<String>,
    pub(crate) sharing: Option<Sharing>,
    pub(crate) size: Option<u64>,
    pub(crate) required: bool,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    /// The variable that a secret is given in.
    pub(crate) env: Option<String>,
}

/// `type=…`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// What is wrong with a `RUN --mount`. The texts are BuildKit's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// A key that no mount has.
    #[error("unexpected key '{key}' in '{field}'{}", hint(.suggestion))]
    Key {
        /// The key.
        key: String,
        /// Where it stands.
        field: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A key that this type of mount does not have.
    #[error("unexpected key '{key}' for mount type '{kind}': only {} mounts have it", owners(.key))]
    KeyOfType {
        /// The key.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// A key without its value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A value that its key cannot have.
    #[error("invalid value for {key}: {value} ({})", values(.key))]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A mode, uid or gid that is no number.
    #[error("invalid value {value} for {key} ({})", values(.key))]
    Number {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// No such type.
    #[error("unsupported mount type {name:?}{}", hint_or(.suggestion, "bind, cache, tmpfs, secret or ssh"))]
    Type {
        /// As written.
        name: String,
        /// The type that was probably meant.
        suggestion: Option<String>,
    },
    /// No such way of sharing.
    #[error("unsupported sharing value {name:?}{}", hint_or(.suggestion, "shared, private or locked"))]
    Sharing {
        /// As written.
        name: String,
        /// The way that was probably meant.
        suggestion: Option<String>,
    },
    /// A mode or an owner where there is none.
    #[error(
        "{key} not allowed for {kind:?} type mounts: only cache, secret and ssh mounts have it"
    )]
    NoOwner {
        /// `mode`, `uid` or `gid`.
        key: &'static str,
        /// The type.
        kind: &'static str,
    },
    /// The root cannot be mounted over.
    #[error("invalid mount target {0:?}: name a directory below it with target=PATH")]
    Target(String),
    /// A secret that nothing names.
    #[error(
        "invalid secret mount. one of source, target required (or id=NAME, as in --secret id=NAME)"
    )]
    UnnamedSecret,
    /// A secret that two things name.
    #[error("both source and id can't be set: they mean the same")]
    SourceAndId,
    /// A secret or ssh mount from a stage.
    #[error("{0} mount should not have a from: it comes from whoever builds")]
    From(&'static str),
    /// `sharing` of something that is no cache.
    #[error("invalid cache sharing set for {0} mount: only cache mounts are shared")]
    SharingOfType(&'static str),
    /// Quotes of the comma-separated list do not match.
    #[error(
        "failed to parse csv mounts: {0} (a field with a comma in it stands in quotes as a whole)"
    )]
    List(&'static str),
}

const KINDS: [(&str, Kind); 5] = [
    ("bind", Kind::Bind),
    ("cache", Kind::Cache),
    ("tmpfs", Kind::Tmpfs),
    ("secret", Kind::Secret),
    ("ssh", Kind::Ssh),
];

const SHARING: [(&str, Sharing); 3] = [
    ("shared", Sharing::Shared),
    ("private", Sharing::Private),
    ("locked", Sharing::Locked),
];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

/// The types of mounts that have `key`.
fn owners(key: &str) -> &'static str {
    match key {
        "size" => "tmpfs",
        "env" => "secret",
        _ => "secret and ssh",
    }
}

/// What can stand behind `key=`.
fn values(key: &str) -> &'static str {
    match key {
        "mode" => "it is an octal number, as 0755",
        "uid" | "gid" => "it is a number",
        "size" => "it is a number of bytes, as 64m",
        _ => "it is true or false",
    }
}

fn hint(suggestion: &Option<String>) -> String {
    suggestion
        .as_ref()
        .map(|it| format!(" (did you mean {it}?)"))
        .unwrap_or_default()
}

fn hint_or(suggestion: &Option<String>, all: &str) -> String {
    match suggestion {
        Some(_) => hint(suggestion),
        None => format!(": it is {all}"),
    }
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("", |(name, _)| name)
    }
}

/// A key, its value, and the text they stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    /// In lower case.
    pub(crate) key: Cow<'a, str>,
    /// What stands behind `=`; its variables are expanded between [`fields`] and [`read`].
    pub(crate) value: Option<Cow<'a, str>>,
    text: Cow<'a, str>,
}

impl Field<'_> {
    /// As written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Cuts `text` into its fields.
pub(crate) fn fields(text: &str) -> Result<Vec<Field<'_>>, MountError> {
    Ok(split_list(text)?.into_iter().map(field).collect())
}

fn field(text: Cow<'_, str>) -> Field<'_> {
    let cut = |text: &str| text.find('=').unwrap_or(text.len());
    let (key, value) = match &text {
        Cow::Borrowed(text) => {
            let (key, value) = text.split_at(cut(text));
            let value = value.get(1..).map(Cow::Borrowed);
            (lower_case(key), value)
        }
        Cow::Owned(text) => {
            let (key, value) = text.split_at(cut(text));
            let value = value.get(1..).map(|it| Cow::Owned(it.to_owned()));
            (Cow::Owned(key.to_lowercase()), value)
        }
    };
    Field { key, value, text }
}

fn lower_case(text: &str) -> Cow<'_, str> {
    match text.bytes().all(|it| it.is_ascii_lowercase()) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.to_lowercase()),
    }
}

/// The names behind `from=` in `text`, read without expansion.
pub(crate) fn literal_from(text: &str) -> Vec<&str> {
    text.split(',')
        .filter_map(|it| it.trim_matches('"').split_once('='))
        .filter(|(key, _)| key.eq_ignore_ascii_case("from"))
        .map(|(_, value)| value)
        .collect()
}

/// Reads what `fields` say, in any order.
pub(crate) fn read(fields: &[Field<'_>]) -> Result<Mount, MountError> {
    let mut mount = Mount {
        kind: kind_of(fields)?,
        from: None,
        source: None,
        target: String::new(),
        read_only: false,
        id: None,
        sharing: None,
        size: None,
        required: false,
        mode: None,
        uid: None,
        gid: None,
        env: None,
    };
    let mut read_only = None;
    for field in fields {
        match &*field.key {
            "type" => {}
            "readonly" | "ro" => read_only = Some(switch(field)?),
            "readwrite" | "rw" => read_only = Some(!switch(field)?),
            _ => mount.set(field)?,
        }
    }
    mount.read_only = read_only.unwrap_or(!matches!(mount.kind, Kind::Cache | Kind::Tmpfs));
    mount.check()?;
    Ok(mount)
}

fn kind_of(fields: &[Field<'_>]) -> Result<Kind, MountError> {
    let Some(field) = fields.iter().rfind(|it| it.key == "type") else {
        return Ok(Kind::Bind);
    };
    let name = text(field)?;
    let lower = lower_case(name);
    let found = KINDS.iter().find(|(it, _)| *it == lower);
    found
        .map(|(_, kind)| *kind)
        .ok_or_else(|| MountError::Type {
            suggestion: suggest(name, KINDS.map(|(name, _)| name), Case::Insensitive),
            name: name.to_owned(),
        })
}

fn text<'a>(field: &'a Field<'_>) -> Result<&'a str, MountError> {
    let value = field.value.as_deref();
    value.ok_or_else(|| MountError::NoValue(field.text.to_string()))
}

/// What stands behind `=`, unless that is nothing.
fn some_text(field: &Field<'_>) -> Result<Option<String>, MountError> {
    let value = text(field)?;
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// A key alone is on; its value is what Go's `strconv.ParseBool` reads.
fn switch(field: &Field<'_>) -> Result<bool, MountError> {
    match field.value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(MountError::Value {
            key: field.key.to_string(),
            value: value.to_owned(),
        }),
    }
}

fn number(field: &Field<'_>, radix: u32) -> Result<Option<u32>, MountError> {
    let value = text(field)?;
    let fail = || MountError::Number {
        key: field.key.to_string(),
        value: value.to_owned(),
    };
    if value.is_empty() || !value.bytes().all(|it| it.is_ascii_digit()) {
        return Err(fail());
    }
    u32::from_str_radix(value, radix)
        .map(Some)
        .map_err(|_| fail())
}

impl Mount {
    fn set(&mut self, field: &Field<'_>) -> Result<(), MountError> {
        let known = KEYS.contains(&&*field.key);
        let only = |kinds: &[Kind]| match kinds.contains(&self.kind) {
            true => Ok(()),
            false => Err(MountError::KeyOfType {
                key: field.key.to_string(),
                kind: self.kind.name(),
            }),
        };
        match &*field.key {
            "required" => {
                only(&[Kind::Secret, Kind::Ssh])?;
                self.required = switch(field)?;
            }
            _ if known && field.value.is_none() => {
                return Err(MountError::NoValue(field.text.to_string()));
            }
            "from" => self.from = some_text(field)?,
            "source" | "src" => self.source = some_text(field)?,
            "target" | "dst" | "destination" => self.target = text(field)?.to_owned(),
            "id" => self.id = some_text(field)?,
            "sharing" => self.sharing = Some(sharing(field)?),
            "size" => {
                only(&[Kind::Tmpfs])?;
                self.size = Some(size(field)?);
            }
            "env" => {
                only(&[Kind::Secret])?;
                self.env = some_text(field)?;
            }
            "mode" => self.mode = number(field, 8)?,
            "uid" => self.uid = number(field, 10)?,
            "gid" => self.gid = number(field, 10)?,
            key => {
                let suggestion = suggest(key, KEYS, Case::Insensitive);
                return Err(MountError::Key {
                    key: key.to_owned(),
                    field: field.text.to_string(),
                    suggestion,
                });
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind.name();
        let owner = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        if let (Kind::Bind | Kind::Tmpfs, Some((key, _))) =
            (self.kind, owner.iter().find(|(_, it)| it.is_some()))
        {
            return Err(MountError::NoOwner { key, kind });
        }
        if self.sharing.is_some() && self.kind != Kind::Cache {
            return Err(MountError::SharingOfType(kind));
        }
        if self.from.is_some() && matches!(self.kind, Kind::Secret | Kind::Ssh) {
            return Err(MountError::From(kind));
        }
        if self.kind == Kind::Secret {
            if self.source.is_none() && self.target.is_empty() && self.id.is_none() {
                return Err(MountError::UnnamedSecret);
            }
            if self.source.is_some() && self.id.is_some() {
                return Err(MountError::SourceAndId);
            }
        }
        Ok(())
    }
}

fn sharing(field: &Field<'_>) -> Result<Sharing, MountError> {
    let name = text(field)?;
    let lower = lower_case(name);
    let found = SHARING.iter().find(|(it, _)| *it == lower);
    found.map(|(_, it)| *it).ok_or_else(|| MountError::Sharing {
        suggestion: suggest(name, SHARING.map(|(name, _)| name), Case::Insensitive),
        name: name.to_owned(),
    })
}

/// Bytes in docker's notation: `64m`, `1.5GiB`, `1024`.
fn size(field: &Field<'_>) -> Result<u64, MountError> {
    let value = text(field)?;
    parse_size(value).ok_or_else(|| MountError::Value {
        key: field.key.to_string(),
        value: value.to_owned(),
    })
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text
        .find(|it: char| !it.is_ascii_digit() && it != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start().to_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let unit = unit
        .strip_suffix('i')
        .filter(|it| !it.is_empty())
        .unwrap_or(unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let bytes = number.parse::<f64>().ok()? * (1_u64 << shift) as f64;
    (0.0..=9e18).contains(&bytes).then_some(bytes as u64)
}

/// The fields of a line of comma-separated values (RFC 4180, as Go's `encoding/csv` reads it).
fn split_list(text: &str) -> Result<Vec<Cow<'_, str>>, MountError> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (field, behind) = quoted_field(quoted)?;
                (Cow::Owned(field), behind)
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err(MountError::List("bare \" in non-quoted field"));
                }
                (Cow::Borrowed(&rest[..end]), &rest[end..])
            }
        };
        fields.push(field);
        match behind.strip_prefix(',') {
            Some(behind) => rest = behind,
            None if behind.is_empty() => return Ok(fields),
            None => return Err(MountError::List("extraneous or missing \" in quoted-field")),
        }
    }
}

/// A field up to its closing quote, and what is behind it; `""` is a quote.
fn quoted_field(text: &str) -> Result<(String, &str), MountError> {
    let mut field = String::new();
    let mut rest = text;
    while let Some(end) = rest.find('"') {
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(behind) => {
                field.push('"');
                rest = behind;
            }
            None => return Ok((field, rest)),
        }
    }
    Err(MountError::List("extraneous or missing \" in quoted-field"))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::{Kind, Mount, MountError, fields, literal_from, parse_size, read, split_list};

    fn mount(text: &str) -> Result<Mount, MountError> {
        read(&fields(text)?)
    }

    fn error(text: &str) -> String {
        mount(text).map_or_else(|error| error.to_string(), |mount| format!("{mount:?}"))
    }

    #[test]
    fn the_type_decides_what_is_read_only() {
        let read_only = |text: &str| mount(text).unwrap().read_only;
        assert!(read_only("target=/x") && read_only("type=secret,id=x"));
        assert!(!read_only("type=cache,target=/x") && !read_only("type=tmpfs,target=/x"));
        assert!(!read_only("target=/x,rw") && !read_only("target=/x,readonly=false"));
        assert!(read_only("type=cache,target=/x,ro") && read_only("target=/x,rw=0"));
    }

    #[test]
    fn a_mistake_is_answered_as_buildkit_does() {
        let table = [
            (
                "tarket=/x",
                "unexpected key 'tarket' in 'tarket=/x' (did you mean target?)",
            ),
            (
                "type=bnd",
                "unsupported mount type \"bnd\" (did you mean bind?)",
            ),
            (
                "type=cache,sharing=lock",
                "unsupported sharing value \"lock\" (did you mean locked?)",
            ),
            (
                "target=/x,mode=755",
                "mode not allowed for \"bind\" type mounts: only cache, secret and ssh mounts have it",
            ),
            (
                "type=tmpfs,target=/x,uid=1",
                "uid not allowed for \"tmpfs\" type mounts: only cache, secret and ssh mounts have it",
            ),
            (
                "type=cache,target=/x,mode=9",
                "invalid value 9 for mode (it is an octal number, as 0755)",
            ),
            (
                "type=cache,target=/x,uid=a",
                "invalid value a for uid (it is a number)",
            ),
            (
                "type=cache,size=1",
                "unexpected key 'size' for mount type 'cache': only tmpfs mounts have it",
            ),
            (
                "type=cache,required",
                "unexpected key 'required' for mount type 'cache': only secret and ssh mounts have it",
            ),
            ("target", "invalid field 'target' must be a key=value pair"),
            (
                "type=secret",
                "invalid secret mount. one of source, target required (or id=NAME, as in --secret id=NAME)",
            ),
            (
                "type=secret,id=a,source=b",
                "both source and id can't be set: they mean the same",
            ),
            (
                "type=secret,id=a,from=b",
                "secret mount should not have a from: it comes from whoever builds",
            ),
            (
                "type=tmpfs,sharing=shared",
                "invalid cache sharing set for tmpfs mount: only cache mounts are shared",
            ),
            (
                "type=tmpfs,size=big",
                "invalid value for size: big (it is a number of bytes, as 64m)",
            ),
            (
                "target=/x,ro=maybe",
                "invalid value for ro: maybe (it is true or false)",
            ),
            (
                "a\"b",
                "failed to parse csv mounts: bare \" in non-quoted field (a field with a comma in it stands in quotes as a whole)",
            ),
        ];
        for (text, message) in table {
            assert_eq!(error(text), message, "{text}");
        }
    }

    #[test]
    fn the_order_of_keys_does_not_matter() {
        let mount = mount("required,id=k,type=ssh").unwrap();
        assert_eq!((mount.kind, mount.required), (Kind::Ssh, true));
    }

    #[test]
    fn fields_can_be_quoted() {
        assert_eq!(
            split_list(r#""target=/a,b",ro,"x=""y""""#),
            Ok(["target=/a,b", "ro", "x=\"y\""].map(Cow::from).to_vec())
        );
        assert_eq!(
            split_list("\"a"),
            Err(MountError::List("extraneous or missing \" in quoted-field"))
        );
        assert_eq!(literal_from("type=bind,from=a,\"from=b\""), ["a", "b"]);
    }

    #[test]
    fn sizes_are_dockers() {
        let table = [
            ("64m", 64 << 20),
            ("1g", 1 << 30),
            ("1.5k", 1536),
            ("2KiB", 2048),
            ("10", 10),
            ("1 MB", 1 << 20),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "1x", "-1", "1.2.3", "99999999999g", "i"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
