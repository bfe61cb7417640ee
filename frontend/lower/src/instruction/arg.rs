//! `ARG`: variables that whoever builds can set.

use dockerfile_parser::InstructionKind;

use crate::call::Given;
use crate::lint::{Lint, rule};
use crate::lowering::{CONTEXT, Lowering};
use crate::scope::{self, Env, Expander};
use crate::stage::Declarations;
use crate::state::{State, Step};
use crate::{Options, PlanError, PlanErrorKind, SOURCE_DATE_EPOCH};

/// One declaration: a name, and a default if it has one.
pub(crate) type Declaration = (String, Option<String>);

/// The scope of `FROM`: platforms, then the `ARG`s before the first stage (A.7).
pub(crate) fn globals(
    declared: &Declarations<'_>,
    options: &Options,
    escape: char,
    lint: &mut Lint,
) -> Result<Env, PlanError> {
    let mut env = scope::platform_args(options);
    for instruction in declared.globals {
        let InstructionKind::Arg(args) = &instruction.kind else {
            continue;
        };
        let step = Step {
            instruction,
            span: instruction.span,
            escape,
            is_trigger: false,
        };
        for (name, default) in args {
            rule::secrets_used_in_arg_or_env(lint, &step, "ARG", name);
            let value = match (options.build_args.get(name), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    let expanded = Expander { env: &env, escape }.word(default);
                    Some(
                        expanded
                            .map_err(|error| {
                                PlanError::at(step.span, PlanErrorKind::Expand(error))
                            })?
                            .text,
                    )
                }
                (None, None) => None,
            };
            if let Some(value) = value.and_then(|it| dated(name, it, options)) {
                env.set(name, &value);
            }
        }
    }
    Ok(env)
}

/// The value of a variable, where it may be the time of the context.
fn dated(name: &str, value: String, options: &Options) -> Option<String> {
    match (name, value.as_str()) {
        (SOURCE_DATE_EPOCH, CONTEXT) => options.context_epoch.map(|it| it.to_string()),
        _ => Some(value),
    }
}

/// `ARG` in a stage: `--build-arg`, else its default, else the global value (G38, G40).
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    state: &mut State,
    step: &Step<'_>,
    args: &[Declaration],
) -> Result<(), PlanError> {
    let names: Vec<String> = args
        .iter()
        .map(|(name, _)| lowering.expand(state, step, name))
        .collect::<Result<_, _>>()?;
    let mut text = String::from("ARG");
    for (name, (_, default)) in names.into_iter().zip(args) {
        if name.is_empty() {
            return Err(PlanError::at(step.span, PlanErrorKind::BlankName("ARG")));
        }
        rule::secrets_used_in_arg_or_env(&mut lowering.lint, step, "ARG", &name);
        let value = match (lowering.options.build_args.get(&name), default) {
            (Some(given), _) => dated(&name, given.clone(), lowering.options),
            (None, Some(default)) => Some(lowering.expand(state, step, default)?),
            (None, None) => lowering.globals.get(&name).map(str::to_owned),
        };
        text.push(' ');
        text.push_str(&name);
        if let Some(value) = &value {
            text.push('=');
            text.push_str(value);
            if !scope::is_never_env(&name) {
                state.env.set(&name, value);
            }
        }
        // One that takes its value from the global scope is described there.
        let is_own = default.is_some()
            || lowering.options.build_args.contains_key(&name)
            || lowering.globals.get(&name).is_none();
        if is_own {
            let given = Given::of(step.instruction, &name, value.as_deref());
            lowering.met.args.insert(name.clone(), given);
        }
        lowering.met.used.insert(name.clone());
        lowering.declared_args.insert(name.clone());
        state.args.insert(name, value);
    }
    state.note(text);
    Ok(())
}
