//! Flags of docker's `build` that mean nothing here, or that cannot be served.

use clap::Args;

use crate::fault::Fault;

/// What rbuild does anyway, or what it cannot do unless it is switched off.
#[derive(Debug, Default, Args)]
pub(crate) struct LegacyArgs {
    /// The image is in the local store in any case
    #[arg(long, hide = true)]
    load: bool,
    /// Nothing is left of a step
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    rm: Option<Option<bool>>,
    /// Nothing is left of a step that failed either
    #[arg(long, hide = true)]
    force_rm: bool,
    /// There is one builder, and it is here
    #[arg(long, hide = true, value_name = "NAME")]
    builder: Option<String>,
    /// The context is read in place
    #[arg(long, hide = true)]
    compress: bool,
    /// Of Windows
    #[arg(long, hide = true, value_name = "TECHNOLOGY")]
    isolation: Option<String>,
    /// Of the classic builder
    #[arg(long, hide = true, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl LegacyArgs {
    /// What to say of those that change nothing.
    ///
    /// # Errors
    /// The first that would change something.
    pub(crate) fn check(&self) -> Result<Vec<String>, Fault> {
        if let Some(kind) = self.isolation.as_deref()
            && !matches!(kind, "" | "default")
        {
            let message =
                format!("`--isolation {kind}` is for Windows; rbuild builds for Linux only");
            return Err(Fault::usage(message));
        }
        if let Some(option) = self.security_opt.first() {
            let message =
                format!("`--security-opt {option}` is not supported: every RUN is confined");
            let hint = "RUN --security=insecure with --allow security.insecure is not confined";
            return Err(Fault::usage(message).hint(hint));
        }
        let ignored = self.compress.then(|| {
            "WARNING: --compress is ignored: the context is read where it is\n".to_owned()
        });
        Ok(ignored.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(change: impl FnOnce(&mut LegacyArgs)) -> String {
        let mut args = LegacyArgs::default();
        change(&mut args);
        match args.check() {
            Ok(warnings) => warnings.concat(),
            Err(fault) => fault.words().lines().next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn what_changes_nothing_is_taken_and_what_would_is_not() {
        assert_eq!(said(|args| args.builder = Some("other".into())), "");
        assert_eq!(said(|args| args.isolation = Some("default".into())), "");
        assert_eq!(
            said(|args| args.compress = true),
            "WARNING: --compress is ignored: the context is read where it is\n"
        );
        assert_eq!(
            said(|args| args.isolation = Some("hyperv".into())),
            "error: `--isolation hyperv` is for Windows; rbuild builds for Linux only"
        );
        assert_eq!(
            said(|args| args.security_opt.push("seccomp=unconfined".into())),
            "error: `--security-opt seccomp=unconfined` is not supported: every RUN is confined"
        );
    }
}
