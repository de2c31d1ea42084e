//! The printed report, and the same as JSON for comparisons of two days.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::balancers::{Lineup, STAYPUT};
use crate::cores::Cores;
use crate::dying::{Dying, RATE};
use crate::idle::Idle;
use crate::measure::{Figures, Handshakes};
use crate::options::Options;
use crate::rounds::{Row, Table};
use crate::scenario::{Against, Budget, Figure};
use crate::second_opinions::SecondOpinions;
use crate::system_calls::SystemCalls;

/// The machine, the settings of all entrants, and the absent ones.
pub(crate) fn print_opening(cores: &Cores, lineup: &Lineup) {
    println!("machine: {} cores, Linux {}", core_count(), kernel());
    println!("balancer on core {}, load and origin on core {}", cores.balancer, cores.load);
    if cores.balancer == cores.load {
        println!("warning: one core for all, so requests a second mean little here");
    }
    for entrant in lineup.entrants.iter().filter(|entrant| entrant.is_balancer()) {
        println!("\n{}:", entrant.title());
        for line in entrant.settings().lines() {
            println!("  | {line}");
        }
    }
    for absent in &lineup.absent {
        let word = if absent.failed { "FAILED" } else { "skipped" };
        println!("\n{}: {word}, {}", absent.name, absent.why);
    }
}

/// `others` are the tables so far.
pub(crate) fn print_table(table: &Table, others: &[Table]) {
    let scenario = table.scenario;
    println!("\n{}: {}, {} of them", scenario.name, scenario.about, scenario.connections);
    if let Some(rate) = table.rate {
        println!("offered to each: {rate:.0} requests a second");
    }
    println!(
        "{:13} {:>9} {:>8} {:>7} {:>7} {:>17} {:>8} {:>8} {:>8} {:>7} {:>6} {:>6} {:>6}",
        "row",
        "req/s",
        "CPU us",
        "user",
        "system",
        "lowest..highest",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "errors",
        "moved",
        "fresh",
        "log B"
    );
    for row in &table.rows {
        print_row(row);
    }
    for Row { name, handshakes: Handshakes { made, resumed, tickets }, .. } in &table.rows {
        if *made > 0 {
            let each = *tickets as f64 / *made as f64;
            println!("{name}: {made} handshakes, {resumed} resumed, {each:.2} tickets each");
        }
    }
    for budget in scenario.budgets {
        println!("{}", verdict(table, budget, others));
    }
    if scenario.budgets.is_empty() {
        println!("stayput: no budget");
    }
}

fn print_row(row: &Row) {
    let Figures { requests_per_second, user, system, cpu, p50, p99, p999 } = row.median;
    let cost = if row.is_balancer {
        let (low, high) = row.cpu_spread();
        format!("{cpu:8.2} {user:7.2} {system:7.2} {:>17}", format!("{low:.2}..{high:.2}"))
    } else {
        format!("{:>8} {:>7} {:>7} {:>17}", "-", "-", "-", "-")
    };
    let requests = row.requests.max(1) as f64;
    let (fresh, logged) = if row.is_balancer {
        let fresh = 100.0 * row.fresh_cookies as f64 / requests;
        (format!("{fresh:.0}%"), format!("{:.0}", row.logged as f64 / requests))
    } else {
        ("-".to_owned(), "-".to_owned())
    };
    println!(
        "{:13} {requests_per_second:9.0} {cost} {p50:8.0} {p99:8.0} {p999:8.0} {:>7} {:>6} {fresh:>6} {logged:>6}",
        row.name, row.errors, row.moved
    );
}

fn verdict(table: &Table, budget: &Budget, others: &[Table]) -> String {
    let &Budget { figure, against, must, aim } = budget;
    let figure = match figure {
        Figure::CpuPerRequest => "CPU per request",
        Figure::P99 => "p99",
    };
    let against = against_in_words(against);
    let aim = aim.map(|aim| format!(", aim {aim} x")).unwrap_or_default();
    match table.ratio(budget, STAYPUT, others) {
        Some(ratio) => format!("stayput: {figure} {ratio:.2} x {against} (must <= {must} x{aim})"),
        None => format!("stayput: no ratio, a row is missing (must <= {must} x {against}{aim})"),
    }
}

fn against_in_words(against: Against) -> String {
    match against {
        Against::Scenario(name) => format!("its own in {name}"),
        Against::Rivals([one]) => (*one).to_owned(),
        Against::Rivals(several) => format!("the better of {}", several.join(" and ")),
    }
}

pub(crate) fn print_second_opinions(opinions: &[SecondOpinions]) {
    for SecondOpinions { generator, about, requests_per_second } in opinions {
        let Some(rates) = requests_per_second else {
            println!("\n{generator}: skipped, not installed or not asked for");
            continue;
        };
        println!("\nrequests a second as {generator} counts them, {about}:");
        for (name, rate) in rates {
            println!("{name:13} {rate:9.0}");
        }
    }
}

pub(crate) fn print_idle(figures: &[Idle]) {
    for figure in figures {
        let Idle { name, base_kib, kib_each, silence, .. } = figure;
        let (low, high) = figure.spread();
        let must = silence.must.filter(|_| *name == STAYPUT);
        let must = must.map(|must| format!(", must <= {must} KiB")).unwrap_or_default();
        println!(
            "{}: {name:13} {kib_each:6.2} KiB each ({low:.2}..{high:.2}), {base_kib:.0} KiB without{must}",
            silence.name
        );
    }
}

/// `None` if strace is absent.
pub(crate) fn print_system_calls(figures: Option<&[SystemCalls]>) {
    let Some(figures) = figures else {
        return println!("\nsystem-calls: skipped, strace is not installed");
    };
    for SystemCalls { name, calls } in figures {
        let sum: f64 = calls.iter().map(|(_, share)| share).sum();
        let list: Vec<String> =
            calls.iter().map(|(call, share)| format!("{call} {share:.2}")).collect();
        println!("system-calls: {name:13} {sum:5.2} a request: {}", list.join(", "));
    }
    if !figures.is_empty() {
        println!("stayput must <= 4 and a share of one epoll_wait");
    }
}

pub(crate) fn print_dying(figures: &[Dying]) {
    for Dying { name, before, after, errors, requests_after } in figures {
        println!(
            "dying-target: {name:13} errors {errors}, right answers {requests_after}, p99 us before \
             {:.0}, after {:.0}",
            before.p99, after.p99
        );
    }
}

/// All figures to write.
pub(crate) struct All<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cores: &'a Cores,
    pub(crate) lineup: &'a Lineup,
    pub(crate) tables: &'a [Table],
    pub(crate) opinions: &'a [SecondOpinions],
    pub(crate) idle: &'a [Idle],
    pub(crate) calls: &'a [SystemCalls],
    pub(crate) dying: &'a [Dying],
}

/// Returns the path of the file.
pub(crate) fn write_json(all: &All<'_>) -> io::Result<PathBuf> {
    let &All { options, cores, lineup, tables, opinions, idle, calls, dying } = all;
    let settings: serde_json::Map<String, Value> = lineup
        .entrants
        .iter()
        .filter(|entrant| entrant.is_balancer())
        .map(|entrant| (entrant.title(), json!(entrant.settings())))
        .collect();
    let absent: Vec<Value> = lineup
        .absent
        .iter()
        .map(|absent| json!({ "name": absent.name, "why": absent.why, "failed": absent.failed }))
        .collect();
    let rates = |opinions: &SecondOpinions| -> serde_json::Map<String, Value> {
        let rates = opinions.requests_per_second.iter().flatten();
        rates.map(|&(name, rate)| (name.to_owned(), json!(rate))).collect()
    };
    let opinions: serde_json::Map<String, Value> = opinions
        .iter()
        .map(|one| (format!("{}_requests_per_second", one.generator), json!(rates(one))))
        .collect();
    let mut report = json!({
        "quick": options.quick,
        "machine": {
            "cores": core_count(),
            "kernel": kernel(),
            "balancer_core": cores.balancer,
            "load_core": cores.load,
        },
        "settings": settings,
        "absent": absent,
        "scenarios": tables.iter().map(|table| table_as_json(table, tables)).collect::<Vec<_>>(),
        "idle": idle.iter().map(|figure| json!({
            "name": figure.name,
            "scenario": figure.silence.name,
            "connections": figure.connections,
            "base_kib": figure.base_kib,
            "kib_each": figure.kib_each,
            "runs": figure.runs,
            "must": figure.silence.must,
        })).collect::<Vec<_>>(),
        "system_calls": calls.iter().map(|figure| json!({
            "name": figure.name,
            "a_request": figure.calls,
        })).collect::<Vec<_>>(),
        "dying_target": dying.iter().map(|figure| json!({
            "name": figure.name,
            "offered_per_second": RATE,
            "errors": figure.errors,
            "right_answers": figure.requests_after,
            "p99_us_before": figure.before.p99,
            "p99_us_after": figure.after.p99,
        })).collect::<Vec<_>>(),
    });
    if let Value::Object(report) = &mut report {
        report.extend(opinions);
    }
    // The program is in <target>/<profile>/.
    let target = Path::new(env!("CARGO_BIN_EXE_stayput")).ancestors().nth(2);
    let folder = target.unwrap_or(Path::new("target")).join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join("throughput.json");
    fs::write(&path, format!("{report:#}\n"))?;
    Ok(path)
}

fn table_as_json(table: &Table, others: &[Table]) -> Value {
    let budgets = table.scenario.budgets.iter().map(|budget| {
        json!({
            "ratio": table.ratio(budget, STAYPUT, others),
            "must": budget.must,
            "aim": budget.aim,
            "against": against_in_words(budget.against),
        })
    });
    let budget = table.scenario.budgets.first();
    json!({
        "name": table.scenario.name,
        "about": table.scenario.about,
        "body": table.scenario.body,
        "connections": table.scenario.connections,
        "offered_per_second": table.rate,
        "rows": table.rows.iter().map(row_as_json).collect::<Vec<_>>(),
        "upload": table.scenario.upload,
        "budgets": budgets.collect::<Vec<_>>(),
        "ratio": budget.and_then(|budget| table.ratio(budget, STAYPUT, others)),
        "must": budget.map(|budget| budget.must),
        "aim": budget.and_then(|budget| budget.aim),
        "against": budget.map(|budget| against_in_words(budget.against)),
    })
}

fn row_as_json(row: &Row) -> Value {
    let figures = |run: &Figures| {
        json!({
            "requests_per_second": run.requests_per_second,
            "cpu_us_per_request": run.cpu,
            "user_us_per_request": run.user,
            "system_us_per_request": run.system,
            "p50_us": run.p50,
            "p99_us": run.p99,
            "p999_us": run.p999,
        })
    };
    json!({
        "name": row.name,
        "median": figures(&row.median),
        "runs": row.runs.iter().map(figures).collect::<Vec<_>>(),
        "requests": row.requests,
        "errors": row.errors,
        "moved": row.moved,
        "fresh_cookies": row.fresh_cookies,
        "handshakes": {
            "made": row.handshakes.made,
            "resumed": row.handshakes.resumed,
            "tickets": row.handshakes.tickets,
        },
        "log_bytes": row.logged,
    })
}

fn core_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim().to_owned()
}
