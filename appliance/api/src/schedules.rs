//! Snapshots that are made by themselves, and of which the last ones are kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A day of the week.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weekday {
    /// The first.
    #[default]
    Monday,
    /// The second.
    Tuesday,
    /// The third.
    Wednesday,
    /// The fourth.
    Thursday,
    /// The fifth.
    Friday,
    /// The sixth.
    Saturday,
    /// The last.
    Sunday,
}

impl Weekday {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Monday,
        Self::Tuesday,
        Self::Wednesday,
        Self::Thursday,
        Self::Friday,
        Self::Saturday,
        Self::Sunday,
    ];

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monday => "monday",
            Self::Tuesday => "tuesday",
            Self::Wednesday => "wednesday",
            Self::Thursday => "thursday",
            Self::Friday => "friday",
            Self::Saturday => "saturday",
            Self::Sunday => "sunday",
        }
    }

    /// The day of a name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|day| day.name() == name)
    }
}

/// When something is done by itself. Times are those of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "every", rename_all = "kebab-case", deny_unknown_fields)]
pub enum When {
    /// Every so many hours, counted from midnight.
    Hours {
        /// How many.
        #[schema(minimum = 1, maximum = 24)]
        hours: u8,
    },
    /// Every day.
    Day {
        /// At this hour.
        #[schema(maximum = 23)]
        hour: u8,
        /// And this minute.
        #[serde(default)]
        #[schema(maximum = 59)]
        minute: u8,
    },
    /// Every week.
    Week {
        /// On this day.
        weekday: Weekday,
        /// At this hour.
        #[schema(maximum = 23)]
        hour: u8,
        /// And this minute.
        #[serde(default)]
        #[schema(maximum = 59)]
        minute: u8,
    },
}

impl When {
    /// What it is called, in a few words.
    pub fn words(self) -> String {
        match self {
            Self::Hours { hours: 1 } => "every hour".to_owned(),
            Self::Hours { hours } => format!("every {hours} hours"),
            Self::Day { hour, minute } => format!("daily at {hour:02}:{minute:02} UTC"),
            Self::Week { weekday, hour, minute } => {
                let (first, rest) = weekday.name().split_at(1);
                format!("{}{rest}s at {hour:02}:{minute:02} UTC", first.to_uppercase())
            }
        }
    }
}

/// Snapshots of a virtual machine that are made by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its id.
    pub id: String,
    /// When they are made.
    pub when: When,
    /// How many are kept.
    pub keep: u16,
    /// How many there are now.
    pub snapshots: u32,
    /// When the next is made.
    pub next_at: Timestamp,
    /// Why the last could not be made, or the oldest not be removed; empty if all is well.
    pub trouble: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// By whom.
    pub made_by: String,
}

/// `GET /api/v1/vms/{vm}/schedules`: the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Schedules {
    /// The schedules.
    pub items: Vec<Schedule>,
}

/// `POST /api/v1/vms/{vm}/schedules`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// When snapshots are made.
    pub when: When,
    /// How many of them are kept: when there are more, the oldest go.
    #[schema(minimum = 1, maximum = 24)]
    pub keep: u16,
    /// Whether the first is made at once.
    #[serde(default)]
    pub at_once: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_say_them() {
        let text = r#"{"every":"week","weekday":"sunday","hour":3,"minute":5}"#;
        let weekly: When = serde_json::from_str(text).unwrap();
        assert_eq!(weekly.words(), "Sundays at 03:05 UTC");
        assert_eq!(serde_json::to_string(&weekly).unwrap(), text);
        assert_eq!(When::Hours { hours: 1 }.words(), "every hour");
        assert_eq!(When::Day { hour: 2, minute: 0 }.words(), "daily at 02:00 UTC");
        assert!(serde_json::from_str::<When>(r#"{"every":"hours","hours":1,"more":2}"#).is_err());
        assert!(Weekday::ALL.into_iter().all(|day| Weekday::of(day.name()) == Some(day)));
    }
}
