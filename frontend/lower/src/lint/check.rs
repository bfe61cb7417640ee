//! `# check=skip=RuleA,RuleB;error=true`: which rules the author wants to hear of.

/// What a `check` directive says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Check {
    skip: Vec<String>,
    /// Whether a warning fails the build.
    pub(super) is_error: bool,
}

impl Check {
    /// Reads `skip=…;error=…`; what is neither is not for us.
    pub(super) fn parse(text: &str) -> Self {
        let mut check = Self::default();
        for (key, value) in text.split(';').filter_map(|it| it.split_once('=')) {
            match key.trim().to_lowercase().as_str() {
                "skip" => check
                    .skip
                    .extend(value.split(',').map(|it| it.trim().to_owned())),
                "error" => check.is_error = value.trim().eq_ignore_ascii_case("true"),
                _ => {}
            }
        }
        check
    }

    /// Whether `rule` is not wanted.
    pub(super) fn skips(&self, rule: &str) -> bool {
        self.skip
            .iter()
            .any(|it| it.eq_ignore_ascii_case(rule) || it == "all")
    }
}

/// Whether `comment`, above an instruction, says that `rule` is not wanted there.
pub(super) fn skips(comment: &str, rule: &str) -> bool {
    let text = comment.trim_start_matches('#').trim();
    text.strip_prefix("check=")
        .is_some_and(|it| Check::parse(it).skips(rule))
}

#[cfg(test)]
mod tests {
    use super::{Check, skips};

    #[test]
    fn rules_are_skipped_by_name_or_altogether() {
        let check = Check::parse("skip=StageNameCasing, FromAsCasing;error=true");
        assert!(check.is_error && check.skips("StageNameCasing") && check.skips("fromascasing"));
        assert!(!check.skips("UndefinedVar") && Check::parse("skip=all").skips("UndefinedVar"));
        assert!(
            skips("check=skip=UndefinedVar", "UndefinedVar")
                && !skips("skip=UndefinedVar", "UndefinedVar")
        );
    }
}
