use http::Method;

use super::{asking, part};
use crate::{
    Access, ApiToken, Call, ChangeGroup, ChangeRole, ChangeUser, Group, ListQuery, NewAccess, NewGroup,
    NewRole, NewUser, Page, Role, User, UserPassword,
};

/// The users.
pub const USERS_PATH: &str = "/api/v1/users";
/// The groups.
pub const GROUPS_PATH: &str = "/api/v1/groups";
/// The roles.
pub const ROLES_PATH: &str = "/api/v1/roles";
/// The roles that were given to users and groups.
pub const ACCESS_PATH: &str = "/api/v1/access";

fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", part(name))
}

/// A part of the users.
pub fn users(query: &ListQuery) -> Call<Page<User>> {
    Call::new(Method::GET, asking(USERS_PATH, query))
}

/// One user.
pub fn user(name: &str) -> Call<User> {
    Call::new(Method::GET, below(USERS_PATH, name))
}

/// Adds a user.
pub fn make_user(body: &NewUser) -> Call<UserPassword> {
    Call::new(Method::POST, USERS_PATH).json(body)
}

/// Changes a user.
pub fn change_user(name: &str, body: &ChangeUser) -> Call<User> {
    Call::new(Method::PATCH, below(USERS_PATH, name)).json(body)
}

/// Gives a user a new password for the next sign-in.
pub fn reset_password(name: &str) -> Call<UserPassword> {
    Call::new(Method::POST, format!("{}/password", below(USERS_PATH, name)))
}

/// Lets a user who has lost the second factor sign in without one.
pub fn reset_second_factor(name: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{}/second-factor", below(USERS_PATH, name)))
}

/// Ends all sessions of a user.
pub fn end_sessions(name: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{}/sessions", below(USERS_PATH, name)))
}

/// The tokens of a user.
pub fn tokens_of(name: &str) -> Call<Page<ApiToken>> {
    Call::new(Method::GET, format!("{}/tokens", below(USERS_PATH, name)))
}

/// Takes a token of a user back.
pub fn revoke_token_of(name: &str, id: &str) -> Call<()> {
    Call::new(Method::DELETE, format!("{}/tokens/{}", below(USERS_PATH, name), part(id)))
}

/// Takes a user out.
pub fn remove_user(name: &str) -> Call<()> {
    Call::new(Method::DELETE, below(USERS_PATH, name))
}

/// A part of the groups.
pub fn groups(query: &ListQuery) -> Call<Page<Group>> {
    Call::new(Method::GET, asking(GROUPS_PATH, query))
}

/// One group.
pub fn group(name: &str) -> Call<Group> {
    Call::new(Method::GET, below(GROUPS_PATH, name))
}

/// Makes a group.
pub fn make_group(body: &NewGroup) -> Call<Group> {
    Call::new(Method::POST, GROUPS_PATH).json(body)
}

/// Changes a group.
pub fn change_group(name: &str, body: &ChangeGroup) -> Call<Group> {
    Call::new(Method::PATCH, below(GROUPS_PATH, name)).json(body)
}

/// Puts a user into a group.
pub fn add_to_group(group: &str, user: &str) -> Call<Group> {
    Call::new(Method::PUT, format!("{}/members/{}", below(GROUPS_PATH, group), part(user)))
}

/// Takes a user out of a group.
pub fn take_from_group(group: &str, user: &str) -> Call<Group> {
    Call::new(Method::DELETE, format!("{}/members/{}", below(GROUPS_PATH, group), part(user)))
}

/// Removes a group.
pub fn remove_group(name: &str) -> Call<()> {
    Call::new(Method::DELETE, below(GROUPS_PATH, name))
}

/// A part of the roles, the built-in ones first.
pub fn roles(query: &ListQuery) -> Call<Page<Role>> {
    Call::new(Method::GET, asking(ROLES_PATH, query))
}

/// One role.
pub fn role(name: &str) -> Call<Role> {
    Call::new(Method::GET, below(ROLES_PATH, name))
}

/// Makes a role.
pub fn make_role(body: &NewRole) -> Call<Role> {
    Call::new(Method::POST, ROLES_PATH).json(body)
}

/// Changes a role.
pub fn change_role(name: &str, body: &ChangeRole) -> Call<Role> {
    Call::new(Method::PATCH, below(ROLES_PATH, name)).json(body)
}

/// Removes a role.
pub fn remove_role(name: &str) -> Call<()> {
    Call::new(Method::DELETE, below(ROLES_PATH, name))
}

/// A part of what was given to users and groups.
pub fn access(query: &ListQuery) -> Call<Page<Access>> {
    Call::new(Method::GET, asking(ACCESS_PATH, query))
}

/// Gives a role.
pub fn give_access(body: &NewAccess) -> Call<Access> {
    Call::new(Method::POST, ACCESS_PATH).json(body)
}

/// Takes a role back.
pub fn take_access(id: i64) -> Call<()> {
    Call::new(Method::DELETE, format!("{ACCESS_PATH}/{id}"))
}
