//! Every lint rule has its page, and the page tells the truth: its example sets the rule off, and
//! what it says to write instead does not.

use lower::{BaseImage, Images, Options, RULES, ResolveError, Rule};
use oci::{Digest, ImageConfig, Platform, Reference};

/// Any image exists, for the platform that is wanted; those of `arm64v8/` for theirs alone.
struct AnyImage;

impl Images for AnyImage {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<BaseImage, ResolveError> {
        let is_arm = reference.repository().starts_with("arm64v8/");
        let arm = Platform::new("linux", "arm64", None);
        let platform = if is_arm { &arm } else { platform };
        let config = ImageConfig::empty(platform);
        Ok(BaseImage {
            id: Digest::of(&config.to_json()),
            pinned: reference.to_string(),
            config,
        })
    }
}

/// The text of the first block of `language` in `section`.
fn block<'a>(section: &'a str, language: &str) -> Option<&'a str> {
    let (_, behind) = section.split_once(&format!("```{language}\n"))?;
    behind.split_once("```").map(|(text, _)| text)
}

fn section<'a>(rule: &Rule, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let (_, behind) = rule
        .page
        .split_once(&heading)
        .unwrap_or_else(|| panic!("the page of {} has no section {title:?}", rule.name));
    behind.split_once("\n## ").map_or(behind, |(text, _)| text)
}

/// What rbuild says of a file, rule and message.
fn noticed(text: &str, ignore: &str) -> Vec<(&'static str, String)> {
    let parse = dockerfile_parser::parse(text.as_bytes());
    let mut options = Options::new(Platform::new("linux", "amd64", None));
    options.ignore = ignore.lines().map(str::to_owned).collect();
    options.findings = lower::findings(&parse);
    assert_eq!(parse.first_error(), None, "{text}");
    let checked = lower::check(&parse.dockerfile, &options, &AnyImage);
    // A name that a default leaves empty is refused; the warning comes all the same.
    let refused = checked
        .error
        .is_some_and(|it| !it.to_string().contains("parse stage name"));
    assert!(!refused, "{text}");
    checked
        .warnings
        .into_iter()
        .map(|it| (it.rule, it.message))
        .collect()
}

#[test]
fn the_example_of_every_page_sets_its_rule_off_and_the_remedy_does_not() {
    for rule in RULES {
        let example = section(rule, "Example");
        let ignore = block(example, "dockerignore").unwrap_or_default();
        let before = block(example, "dockerfile").expect("an example");
        let after = block(section(rule, "How to fix it"), "dockerfile").expect("a remedy");
        let found = noticed(before, ignore);
        let messages: Vec<&str> = found
            .iter()
            .filter(|it| it.0 == rule.name)
            .map(|it| it.1.as_str())
            .collect();
        assert!(!messages.is_empty(), "{}: {found:?}", rule.name);
        assert_eq!(noticed(after, ignore), [], "the remedy of {}", rule.name);
    }
}

#[test]
fn every_page_says_what_the_rule_says_why_and_how_to_be_rid_of_it() {
    for rule in RULES {
        let mut lines = rule.page.lines();
        assert_eq!(lines.next(), Some(&*format!("# {}", rule.name)));
        let said = lines
            .find_map(|it| it.strip_prefix("> "))
            .expect("a message");
        let words =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let example = section(rule, "Example");
        let ignore = block(example, "dockerignore").unwrap_or_default();
        let found = noticed(block(example, "dockerfile").expect("an example"), ignore);
        let close = found
            .iter()
            .filter(|it| it.0 == rule.name)
            .any(|(_, message)| {
                let (message, said) = (words(message), words(said));
                let same = message.iter().filter(|it| said.contains(it)).count();
                message.len() == said.len() && same + 4 >= said.len()
            });
        assert!(close, "{}: {said}\n{found:?}", rule.name);
        let skip = section(rule, "How to skip it");
        assert!(skip.contains(rule.name), "{}", rule.name);
    }
}

#[test]
fn every_rule_is_one_file_with_a_page_beside_it() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lint");
    let entries = std::fs::read_dir(directory).expect("the rules are there");
    let mut pages = 0;
    for entry in entries {
        let path = entry.expect("an entry of a directory").path();
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        match path.extension().and_then(|it| it.to_str()) {
            Some("md") => pages += 1,
            // The parser has that rule, because only it sees the empty line.
            Some("rs") if name != "check" => {
                assert!(path.with_extension("md").exists(), "{name} has no page");
            }
            _ => assert_eq!(name, "check"),
        }
    }
    assert_eq!(pages, RULES.len());
}

#[test]
fn a_comment_above_an_instruction_or_a_directive_silences_each_rule() {
    for rule in RULES.iter().filter(|it| !it.is_experimental) {
        let example = section(rule, "Example");
        let ignore = block(example, "dockerignore").unwrap_or_default();
        let text = block(example, "dockerfile").expect("an example");
        let skip = format!("# check=skip={}\n", rule.name);
        let is_said = |text: &str| noticed(text, ignore).iter().any(|it| it.0 == rule.name);
        assert!(
            !is_said(&format!("{skip}{text}")),
            "{} by directive",
            rule.name
        );
        // Behind a comment it is no directive any more, but speaks of what is below.
        let lines =
            text.lines().map(
                |line| match line.starts_with([' ', '\t']) || line.is_empty() {
                    true => format!("{line}\n"),
                    false => format!("{skip}{line}\n"),
                },
            );
        let commented = format!("# a comment\n{}", lines.collect::<String>());
        assert!(
            !is_said(&commented),
            "{} by comments:\n{commented}",
            rule.name
        );
    }
}
