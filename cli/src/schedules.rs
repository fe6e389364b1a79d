//! Snapshots of virtual machines that are made by themselves.

use clap::{Args, Subcommand};
use quantix_api::{NewSchedule, Weekday, When, calls};

use crate::{
    Failure, Session,
    cluster::done,
    shown::{self, Output},
    vms::find,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show those of one.
    List {
        /// Name or id.
        vm: String,
    },
    /// Have snapshots made by themselves, without memory, and the last ones kept. Times are those of UTC.
    Make(Make),
    /// Have no more made like this. Those that were made stay.
    Remove {
        /// Name or id of the machine.
        vm: String,
        /// Which, by its number in the list or its id.
        schedule: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Make {
    /// Name or id.
    vm: String,
    #[command(flatten)]
    when: Asked,
    /// How many are kept: when there are more, the oldest go.
    #[arg(long, default_value_t = 7)]
    keep: u16,
    /// Make the first at once.
    #[arg(long)]
    at_once: bool,
}

#[derive(Clone, Copy, Debug, Args)]
#[group(required = true, multiple = false)]
struct Asked {
    /// Every so many hours, counted from midnight.
    #[arg(long, value_name = "HOURS")]
    hours: Option<u8>,
    /// Every day at this time, as in 02:30.
    #[arg(long, value_name = "TIME", value_parser = time)]
    daily: Option<(u8, u8)>,
    /// Every week, as in sunday@02:30.
    #[arg(long, value_name = "DAY@TIME", value_parser = day_and_time)]
    weekly: Option<(Weekday, u8, u8)>,
}

impl Asked {
    fn when(self) -> When {
        match self {
            Self { daily: Some((hour, minute)), .. } => When::Day { hour, minute },
            Self { weekly: Some((weekday, hour, minute)), .. } => When::Week { weekday, hour, minute },
            Self { hours, .. } => When::Hours { hours: hours.unwrap_or_default() },
        }
    }
}

fn time(text: &str) -> Result<(u8, u8), String> {
    let wrong = || "a time is one like 02:30".to_owned();
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    Ok((hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?))
}

fn day_and_time(text: &str) -> Result<(Weekday, u8, u8), String> {
    let (day, at) = text.split_once('@').ok_or("this is like sunday@02:30")?;
    let day = Weekday::of(day)
        .ok_or_else(|| format!("a day is one of {}", Weekday::ALL.map(Weekday::name).join(", ")))?;
    let (hour, minute) = time(at)?;
    Ok((day, hour, minute))
}

pub(crate) async fn run(session: &Session, command: Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::List { vm } => {
            let vm = find(session, &vm).await?;
            let items = session.call(calls::schedules(&vm.id)).await?.items;
            let numbered: Vec<_> = items.iter().enumerate().collect();
            if output == Output::Json {
                return Ok(shown::json(&serde_json::json!({ "items": items }))?);
            }
            shown::list(
                output,
                &["NUMBER", "WHEN", "KEEPS", "HAS", "NEXT", "TROUBLE"],
                &numbered,
                |(at, one)| {
                    vec![
                        (at + 1).to_string(),
                        one.when.words(),
                        one.keep.to_string(),
                        one.snapshots.to_string(),
                        one.next_at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
                        one.trouble.clone(),
                    ]
                },
            )
        }
        Command::Make(make) => {
            let vm = find(session, &make.vm).await?;
            let new = NewSchedule { when: make.when.when(), keep: make.keep, at_once: make.at_once };
            let made = session.call(calls::make_schedule(&vm.id, &new)).await?;
            match output {
                Output::Json => Ok(shown::json(&made)?),
                Output::Table => done(output, &format!("Snapshots are made {}.", made.when.words())),
            }
        }
        Command::Remove { vm, schedule } => {
            let vm = find(session, &vm).await?;
            let items = session.call(calls::schedules(&vm.id)).await?.items;
            let number = schedule.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let id = number.and_then(|at| items.get(at)).map_or(schedule.as_str(), |one| one.id.as_str());
            session.call(calls::remove_schedule(&vm.id, id)).await?;
            done(output, "No more snapshots are made like this. Those that were made stay.")
        }
    }
}
