//! Groups, roles, and to whom roles are given.

use clap::Subcommand;
use quantix_api::{
    ChangeGroup, ChangeRole, Group, Held, NewAccess, NewGroup, NewRole, Right, Role, Scope, Who, calls,
};

use crate::{
    Failure, Session,
    cluster::{confirmed, done},
    shown::{self, Output},
};

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List the groups.
    List,
    /// Show who is in a group and what it has.
    Show {
        /// The group.
        name: String,
    },
    /// Make a group.
    Add {
        /// Its name.
        name: String,
        /// What it is for.
        #[arg(long, default_value = "")]
        purpose: String,
        /// What the identity provider calls it, if it shall fill it.
        #[arg(long)]
        provider_name: Option<String>,
    },
    /// Change what a group is for, or whether the identity provider fills it.
    Change {
        /// The group.
        name: String,
        /// What it is for.
        #[arg(long)]
        purpose: Option<String>,
        /// What the identity provider calls it; an empty text for a group that is filled by hand.
        #[arg(long)]
        provider_name: Option<String>,
    },
    /// Put a user into a group.
    Put {
        /// The group.
        name: String,
        /// The user.
        user: String,
    },
    /// Take a user out of a group.
    Take {
        /// The group.
        name: String,
        /// The user.
        user: String,
    },
    /// Remove a group.
    Remove {
        /// The group.
        name: String,
        /// The name once more, instead of being asked for it.
        #[arg(long)]
        confirm: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// List the roles and what they let somebody do.
    List,
    /// Show a role as JSON.
    Show {
        /// The role.
        name: String,
    },
    /// Make a role.
    Add {
        /// Its name.
        name: String,
        /// What it lets somebody do.
        #[arg(required = true, value_parser = right)]
        rights: Vec<Right>,
        /// What it is for.
        #[arg(long, default_value = "")]
        purpose: String,
    },
    /// Change a role, for everybody who has it.
    Change {
        /// The role.
        name: String,
        /// What it lets somebody do from now on; nothing for what it does now.
        #[arg(value_parser = right)]
        rights: Vec<Right>,
        /// What it is for.
        #[arg(long)]
        purpose: Option<String>,
    },
    /// Remove a role that nobody has.
    Remove {
        /// The role.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// List which roles were given, to whom and where.
    List,
    /// Give a role.
    Give {
        /// The role.
        role: String,
        /// To whom: user/NAME or group/NAME.
        #[arg(value_parser = who)]
        to: Who,
        /// Where it counts: datacenter, or host/ID.
        #[arg(long, default_value = "datacenter", value_parser = scope)]
        on: Scope,
    },
    /// Take a role back.
    Take {
        /// Its number in the list.
        id: i64,
    },
}

fn right(name: &str) -> Result<Right, String> {
    let known = || Right::ALL.map(Right::name).join(", ");
    name.parse().map_err(|_| format!("known rights are {}", known()))
}

fn who(text: &str) -> Result<Who, String> {
    text.parse().map_err(|_| "say user/NAME or group/NAME".to_owned())
}

pub(crate) fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|_| "say datacenter, or host/ and the id that qx cluster status shows".to_owned())
}

pub(crate) async fn groups(command: GroupCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        GroupCommand::List => {
            let groups = session.all(|query| calls::groups(&query)).await?;
            let row = |group: &Group| {
                vec![
                    group.name.clone(),
                    group.purpose.clone(),
                    group.members.join(", "),
                    titles(&group.roles),
                ]
            };
            shown::list(output, &["NAME", "PURPOSE", "MEMBERS", "ROLES"], &groups, row)
        }
        GroupCommand::Show { name } => Ok(shown::json(&session.call(calls::group(&name)).await?)?),
        GroupCommand::Add { name, purpose, provider_name } => {
            session.call(calls::make_group(&NewGroup { name: name.clone(), purpose, provider_name })).await?;
            done(output, &format!("The group {name} is there."))
        }
        GroupCommand::Change { name, purpose, provider_name } => {
            session.call(calls::change_group(&name, &ChangeGroup { purpose, provider_name })).await?;
            done(output, "Saved.")
        }
        GroupCommand::Put { name, user } => {
            session.call(calls::add_to_group(&name, &user)).await?;
            done(output, &format!("{user} is in {name}."))
        }
        GroupCommand::Take { name, user } => {
            session.call(calls::take_from_group(&name, &user)).await?;
            done(output, &format!("{user} is not in {name} any more."))
        }
        GroupCommand::Remove { name, confirm } => {
            confirmed(&name, confirm, "Everybody in it loses what they had through it.")?;
            session.call(calls::remove_group(&name)).await?;
            done(output, &format!("The group {name} is removed."))
        }
    }
}

pub(crate) async fn roles(command: RoleCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        RoleCommand::List => {
            let roles = session.all(|query| calls::roles(&query)).await?;
            let row = |role: &Role| {
                let rights: Vec<_> = role.rights.iter().map(|right| right.name()).collect();
                vec![role.name.clone(), rights.join(", "), role.purpose.clone()]
            };
            shown::list(output, &["NAME", "RIGHTS", "PURPOSE"], &roles, row)
        }
        RoleCommand::Show { name } => Ok(shown::json(&session.call(calls::role(&name)).await?)?),
        RoleCommand::Add { name, rights, purpose } => {
            let new = NewRole { name: name.clone(), purpose, rights: rights.into_iter().collect() };
            session.call(calls::make_role(&new)).await?;
            done(output, &format!("The role {name} is there."))
        }
        RoleCommand::Change { name, rights, purpose } => {
            let rights = (!rights.is_empty()).then(|| rights.into_iter().collect());
            session.call(calls::change_role(&name, &ChangeRole { purpose, rights })).await?;
            done(output, "Saved. It counts at once for everybody who has the role.")
        }
        RoleCommand::Remove { name } => {
            session.call(calls::remove_role(&name)).await?;
            done(output, &format!("The role {name} is removed."))
        }
    }
}

pub(crate) async fn access(command: AccessCommand, output: Output) -> Result<(), Failure> {
    let session = Session::open()?;
    match command {
        AccessCommand::List => {
            let given = session.all(|query| calls::access(&query)).await?;
            shown::list(output, &["NUMBER", "WHO", "ROLE", "WHERE"], &given, |access| {
                vec![
                    access.id.to_string(),
                    access.who.to_string(),
                    access.role.clone(),
                    access.scope.to_string(),
                ]
            })
        }
        AccessCommand::Give { role, to, on } => {
            let new = NewAccess { who: to, role, scope: on };
            let given = session.call(calls::give_access(&new)).await?;
            done(output, &format!("{} has the role {} on {}.", given.who, given.role, given.scope))
        }
        AccessCommand::Take { id } => {
            session.call(calls::take_access(id)).await?;
            done(output, "The role is taken back.")
        }
    }
}

/// Roles with the place where they count, unless that is everywhere.
pub(crate) fn titles(roles: &[Held]) -> String {
    let title = |held: &Held| match &held.scope {
        Scope::Datacenter => held.role.clone(),
        place => format!("{} on {place}", held.role),
    };
    roles.iter().map(title).collect::<Vec<_>>().join(", ")
}
