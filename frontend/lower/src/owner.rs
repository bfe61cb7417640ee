//! `--chown` and `USER` as owners of files (G45, G66).

use llb::op::{Owner, OwnerNames, UserName};

use crate::PlanErrorKind;

/// The owner that `USER[:GROUP]` means. A user by number without a group has the group of that
/// number; an empty name is number 0.
pub(crate) fn parse(text: &str, names: OwnerNames) -> Result<Owner, PlanErrorKind> {
    let fail = || PlanErrorKind::Chown(text.to_owned());
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let user = name(user).ok_or_else(fail)?;
    let group = match (group, &user) {
        (Some(group), _) => Some(name(group).ok_or_else(fail)?),
        (None, UserName::Id(id)) => Some(UserName::Id(*id)),
        (None, UserName::Name(_)) => None,
    };
    Ok(Owner { user, group, names })
}

/// Whether a name must be looked up to know the owner.
pub(crate) fn has_name(owner: &Owner) -> bool {
    let is_name = |it: &UserName| matches!(it, UserName::Name(_));
    is_name(&owner.user) || owner.group.as_ref().is_some_and(is_name)
}

fn name(text: &str) -> Option<UserName> {
    if text.is_empty() {
        return Some(UserName::Id(0));
    }
    if text.bytes().all(|it| it.is_ascii_digit()) {
        return text.parse().ok().map(UserName::Id);
    }
    (!text.contains([':', '\n', '\0'])).then(|| UserName::Name(text.to_owned()))
}
