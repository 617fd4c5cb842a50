//! The long runs, for `scripts/soak`: the same code as the tests, with the doses of the goals. Settings come by the
//! environment: `CORELANE_SOAK_MINUTES`, `CORELANE_SOAK_RATE`, `CORELANE_SOAK_FAULTS`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::endpoint::{Fault, Process, Program};
use super::faults::assert_attempts;
use super::life;
use super::scene::{Dose, Storm, alone, scripts, storm};
use crate::support::open_loop::Report;

/// Every run by its name.
const ALL: [&str; 12] = [
    "kill", "kill-sim", "stop", "reset", "500", "hang", "refuse", "cut", "empty", "chunks", "reload",
    "upgrade",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn one(name: &str, dose: Dose) -> Option<Storm> {
    let processes = |program| -> Vec<Process> { (0..3).map(|_| Process::start(program)).collect() };
    let script = |fault| Some(storm(name, fault, dose, &scripts()));
    match name {
        "kill" => Some(storm(name, Fault::Kill, dose, &processes(Program::Script))),
        "kill-sim" => Some(storm(name, Fault::Kill, dose, &processes(Program::Sim))),
        "stop" => Some(storm(name, Fault::Stop, dose, &processes(Program::Script))),
        "reset" => script(Fault::Reset),
        "500" => script(Fault::Status),
        "hang" => script(Fault::Hang),
        "refuse" => script(Fault::Refuse),
        "cut" => script(Fault::Cut),
        "empty" => script(Fault::Empty),
        "chunks" => script(Fault::BadChunk),
        "reload" => {
            life::reloads(name, dose, Duration::from_secs(1));
            None
        }
        "upgrade" => {
            life::upgrades(name, dose, Duration::from_secs(10));
            None
        }
        _ => panic!("no run '{name}'; there are {}", ALL.join(" ")),
    }
}

#[test]
#[ignore = "minutes for each fault: scripts/soak"]
fn soak() {
    let _alone = alone();
    let minutes = setting("CORELANE_SOAK_MINUTES", 10);
    let per_second = u32::try_from(setting("CORELANE_SOAK_RATE", 500)).unwrap();
    let dose = Dose { per_second, time: Duration::from_secs(minutes * 60) };
    let wanted = std::env::var("CORELANE_SOAK_FAULTS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let wanted = if wanted.is_empty() { ALL.to_vec() } else { wanted };
    let (mut table, mut failed) = (vec![Report::head()], Vec::new());
    for name in wanted {
        println!("== {name}, {minutes} min at {per_second}/s");
        let run = catch_unwind(AssertUnwindSafe(|| {
            let Some(storm) = one(name, dose) else { return format!("{name:24} all held, see above") };
            let visible = ["kill", "kill-sim", "cut", "chunks"].contains(&name);
            storm.assert_sound(if visible { &["broken"] } else { &[] });
            if storm.seen.is_some() {
                assert_attempts(&storm);
            }
            storm.report.line(name)
        }));
        table.push(run.unwrap_or_else(|_| {
            failed.push(name);
            format!("{name:24} FAILED, see above")
        }));
    }
    println!("\n{}", table.join("\n"));
    assert!(failed.is_empty(), "failed: {}", failed.join(" "));
}
