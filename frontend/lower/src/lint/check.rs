//! `# check=skip=RuleA,RuleB;error=true;experimental=all`: which rules the author wants to hear of.

use dockerfile_parser::{Case, suggest};

use super::RULES;

/// What a `check` directive says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Check {
    skip: Names,
    experimental: Names,
    /// Whether a warning fails the build.
    pub(super) is_error: bool,
}

/// Some rules, or all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    names: Vec<String>,
}

/// What is wrong with a `check` directive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// A key that is none of the three.
    #[error("invalid check option {key:?}{}", suggestion.as_ref().map_or(String::from(": use skip=RULES, error=true or experimental=RULES, with `;` between them"), |it| format!(" (did you mean {it}?)")))]
    Option {
        /// As written.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<String>,
    },
    /// A key without its value.
    #[error("invalid check option {0:?}: it has no value")]
    NoValue(String),
    /// `error=` with another value than `true` or `false`.
    #[error("failed to parse check option {0:?}: error is true or false")]
    NotBoolean(String),
}

const OPTIONS: [&str; 3] = ["skip", "error", "experimental"];

impl Check {
    /// Reads `skip=…;error=…;experimental=…`.
    pub(super) fn parse(text: &str) -> Result<Self, CheckError> {
        let mut check = Self::default();
        for option in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let (key, value) = (key.trim().to_lowercase(), value.trim());
            if !OPTIONS.contains(&key.as_str()) {
                let suggestion = suggest(&key, OPTIONS, Case::Sensitive);
                return Err(CheckError::Option { key, suggestion });
            }
            if value.is_empty() {
                return Err(CheckError::NoValue(option.to_owned()));
            }
            match key.as_str() {
                "skip" => check.skip.add(value),
                "experimental" => check.experimental.add(value),
                _ => check.is_error = boolean(option, value)?,
            }
        }
        Ok(check)
    }

    /// Whether the author wants to hear of `rule`.
    pub(super) fn wants(&self, rule: &str) -> bool {
        let is_experimental = RULES.iter().any(|it| it.name == rule && it.is_experimental);
        !self.skip.has(rule) && (!is_experimental || self.experimental.has(rule))
    }

    /// Whether the author does not want to hear of `rule` here.
    pub(super) fn skips(&self, rule: &str) -> bool {
        self.skip.has(rule)
    }

    /// The names in it that no rule has, each with the one that was probably meant.
    pub(super) fn unknown(&self) -> Vec<(&str, Option<String>)> {
        let known = |name: &str| RULES.iter().any(|it| it.name.eq_ignore_ascii_case(name));
        let names = self.skip.names.iter().chain(&self.experimental.names);
        names
            .filter(|it| !known(it))
            .map(|it| (it.as_str(), nearest(it)))
            .collect()
    }
}

/// The names of rules are long, so that more than the usual two slips are forgiven.
fn nearest(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    let known = RULES.iter().map(|it| it.name);
    let same = known
        .clone()
        .find(|it| it.to_lowercase().starts_with(&lower) && lower.len() > 3);
    let near = || suggest(name, known, Case::Sensitive);
    same.map(str::to_owned).or_else(near)
}

impl Names {
    fn add(&mut self, list: &str) {
        for name in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            match name {
                "all" => self.all = true,
                name => self.names.push(name.to_owned()),
            }
        }
    }

    fn has(&self, rule: &str) -> bool {
        self.all || self.names.iter().any(|it| it.eq_ignore_ascii_case(rule))
    }
}

/// What Go's `strconv.ParseBool` reads.
fn boolean(option: &str, value: &str) -> Result<bool, CheckError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(CheckError::NotBoolean(option.to_owned())),
    }
}

/// What `comment`, above an instruction, says: `check=skip=RuleA`. `None` for any other comment.
pub(super) fn of_comment(comment: &str) -> Option<Result<Check, CheckError>> {
    let text = comment.trim_start_matches('#').trim();
    let (key, value) = text.split_once('=')?;
    (key.trim().eq_ignore_ascii_case("check")).then(|| Check::parse(value))
}

#[cfg(test)]
mod tests {
    use super::{Check, of_comment};

    #[test]
    fn rules_are_skipped_by_name_or_altogether() {
        let check = Check::parse("skip=StageNameCasing, FromAsCasing;error=true").unwrap();
        assert!(check.is_error && !check.wants("StageNameCasing") && !check.wants("FromAsCasing"));
        assert!(check.wants("UndefinedVar"));
        assert!(!Check::parse("skip=all").unwrap().wants("UndefinedVar"));
        let comment = of_comment("check=skip=UndefinedVar").unwrap().unwrap();
        assert!(!comment.wants("UndefinedVar") && comment.wants("FromAsCasing"));
        assert_eq!(of_comment("skip=UndefinedVar"), None);
    }

    #[test]
    fn experimental_rules_are_asked_for() {
        let wants = |text| {
            Check::parse(text)
                .unwrap()
                .wants("InvalidDefinitionDescription")
        };
        assert!(!wants("") && !wants("error=false"));
        assert!(wants("experimental=all") && wants("experimental=InvalidDefinitionDescription"));
        assert!(!wants("experimental=all;skip=InvalidDefinitionDescription"));
    }

    #[test]
    fn what_is_no_option_is_refused_with_a_way_out() {
        let table = [
            (
                "skp=all",
                "invalid check option \"skp\" (did you mean skip?)",
            ),
            (
                "StageNameCasing",
                "invalid check option \"stagenamecasing\": use skip=RULES, error=true or experimental=RULES, with `;` between them",
            ),
            ("skip", "invalid check option \"skip\": it has no value"),
            (
                "error=yes",
                "failed to parse check option \"error=yes\": error is true or false",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                Check::parse(text).unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_name_that_no_rule_has_is_known() {
        let check = Check::parse("skip=StageNameCaseing,FromAs,Elephants,undefinedvar").unwrap();
        let meant = |it: &str| Some(it.to_owned());
        assert_eq!(
            check.unknown(),
            [
                ("StageNameCaseing", meant("StageNameCasing")),
                ("FromAs", meant("FromAsCasing")),
                ("Elephants", None)
            ]
        );
    }
}
