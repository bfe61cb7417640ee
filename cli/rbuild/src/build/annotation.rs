//! `--annotation`, and the options of `--output` that say the same.

use export::{Annotated, Annotations};
use oci::Platform;

use crate::fault::Fault;

const FORM: &str = "write it as `[TYPE[PLATFORM]:]KEY=VALUE` with the types manifest, index, manifest-descriptor and index-descriptor";

/// Reads all `--annotation`: `KEY=VALUE` is on manifests, `index,manifest[linux/amd64]:KEY=VALUE` on
/// what it names.
pub(crate) fn annotations(texts: &[String]) -> Result<Annotations, Fault> {
    let mut annotations = Annotations::default();
    for text in texts {
        let wrong = |why: String| Fault::usage(format!("`--annotation {text}`: {why}")).hint(FORM);
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| wrong("it has no value".to_owned()))?;
        let (types, key) = key.split_once(':').unwrap_or(("manifest", key));
        if key.is_empty() {
            return Err(wrong("it has no key".to_owned()));
        }
        for kind in types.split(',') {
            annotations.add(meant(kind).map_err(wrong)?, key, value);
        }
    }
    Ok(annotations)
}

/// Reads the key of an option of `--output`: `annotation[-TYPE][[PLATFORM]].KEY`. `None` for one that
/// is no annotation.
pub(crate) fn option(option: &str) -> Option<Result<(Of, String), String>> {
    let (head, key) = option.strip_prefix("annotation")?.split_once('.')?;
    let kind = match head.strip_prefix('-') {
        Some(kind) => kind.to_owned(),
        None if head.is_empty() || head.starts_with('[') => format!("manifest{head}"),
        None => return None,
    };
    if key.is_empty() {
        return Some(Err(format!("`{option}` has no key")));
    }
    Some(meant(&kind).map(|of| (of, key.to_owned())))
}

/// What an annotation stands in, and for which platform alone.
pub(crate) type Of = (Annotated, Option<Platform>);

/// `TYPE` or `TYPE[PLATFORM]`.
fn meant(text: &str) -> Result<Of, String> {
    let (kind, platform) = match text.strip_suffix(']').and_then(|it| it.split_once('[')) {
        Some((kind, platform)) => (kind, Some(platform)),
        None => (text, None),
    };
    let of = Annotated::parse(kind).ok_or_else(|| {
        format!(
            "there is no type `{kind}`; the types are manifest, index, manifest-descriptor and index-descriptor"
        )
    })?;
    let platform = platform.map(str::parse::<Platform>).transpose();
    let platform = platform.map_err(|error| error.to_string())?;
    match platform {
        Some(_) if of.is_of_index() => Err(format!("`{text}`: an index is of all platforms")),
        platform => Ok((of, platform)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match annotations(&[text.to_owned()]) {
            Ok(read) => format!("{read:?}"),
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn an_annotation_may_be_on_several_things() {
        let all = read("index,manifest[linux/arm64]:org.X=a=b:c");
        assert_eq!(
            all.matches(r#"key: "org.X", value: "a=b:c""#).count(),
            2,
            "{all}"
        );
        assert!(all.contains("of: Index, platform: None"), "{all}");
        assert!(all.contains("of: Manifest, platform: Some"), "{all}");
        assert!(read("a=").contains(r#"of: Manifest, platform: None, key: "a", value: """#));
    }

    #[test]
    fn what_is_wrong_with_an_annotation_is_said_in_a_sentence() {
        let table = [
            ("a", "it has no value"),
            ("index:=b", "it has no key"),
            (
                "layer:a=b",
                "there is no type `layer`; the types are manifest, index, manifest-descriptor and index-descriptor",
            ),
            (
                "index[linux/amd64]:a=b",
                "`index[linux/amd64]`: an index is of all platforms",
            ),
        ];
        for (text, why) in table {
            assert_eq!(read(text), format!("error: `--annotation {text}`: {why}"));
        }
    }

    #[test]
    fn options_of_outputs_are_annotations_in_other_words() {
        let read = |text: &str| {
            option(text).map(|it| {
                it.map(|((of, platform), key)| {
                    format!(
                        "{of:?} {} {key}",
                        platform.map_or("-".to_owned(), |it| it.to_string())
                    )
                })
            })
        };
        let ok = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(read("annotation.a.b"), ok("Manifest - a.b"));
        assert_eq!(
            read("annotation[linux/arm64].a"),
            ok("Manifest linux/arm64 a")
        );
        assert_eq!(
            read("annotation-manifest-descriptor[linux/amd64].a"),
            ok("ManifestDescriptor linux/amd64 a")
        );
        assert_eq!(read("annotations.a"), None);
        assert!(read("annotation-layer.a").is_some_and(|it| it.is_err()));
    }
}
