//! Makes the classifiers' weights from labelled texts, and measures them.
//!
//! The same input gives the same bytes: rows are read in the order of their files' names, shuffled by a
//! seed, and every sum has one order. Weights come only from rows of licence class P or S and from the
//! project's own rows.

mod code;
mod data;
mod fit;
mod grammar;
mod refusal;
mod report;
mod solver;
mod texts;
mod toxicity;
mod urls;

use std::path::PathBuf;
use std::process::ExitCode;

use corelane::guard::linear::Head;
use corelane::guard::linear::model::Model;

/// What the command line says.
pub struct Options {
    command: String,
    data: PathBuf,
    own: PathBuf,
    out: PathBuf,
    heads: Vec<Head>,
    pub seed: u64,
    pub folds: usize,
    unseen: bool,
    /// Of a hundred of our own rows so many only measure.
    hold: u64,
    cost: Option<f32>,
    rule_gain: Option<f32>,
    rounds: Option<usize>,
    dump: Option<PathBuf>,
}

impl Options {
    /// The head's own tuning, or what the command line says.
    fn tuning(&self, head: Head) -> fit::Tuning {
        let own = fit::Tuning::of(head);
        fit::Tuning {
            cost: self.cost.unwrap_or(own.cost),
            rule_gain: self.rule_gain.unwrap_or(own.rule_gain),
            rounds: self.rounds.unwrap_or(own.rounds),
        }
    }
}

const USAGE: &str = "usage: corelane-training all|eval [--data DIR] [--own DIR] [--out DIR] [--head NAME]... \
                     [--seed N] [--folds N] [--leave-out] [--hold PERCENT] \
                     [--dump FILE] [--cost X] [--rule-gain X] [--rounds N]";

fn options() -> Result<Options, String> {
    let home = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut options = Options {
        command: String::new(),
        data: home.join("../../shared/data/guard"),
        own: home.join("data"),
        out: home.join("../src/guard/models"),
        heads: Vec::new(),
        seed: 7,
        folds: 4,
        unseen: false,
        hold: 0,
        cost: None,
        rule_gain: None,
        rounds: None,
        dump: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
        let number = |text: String| text.parse::<f32>().map_err(|error| format!("{text}: {error}"));
        match argument.as_str() {
            "--data" => options.data = value()?.into(),
            "--own" => options.own = value()?.into(),
            "--out" => options.out = value()?.into(),
            "--head" => {
                let name = value()?;
                let head = Head::ALL.into_iter().find(|head| head.name() == name);
                options.heads.push(head.ok_or_else(|| format!("no head {name}"))?);
            }
            "--seed" => options.seed = number(value()?)? as u64,
            "--folds" => options.folds = number(value()?)? as usize,
            "--cost" => options.cost = Some(number(value()?)?),
            "--rule-gain" => options.rule_gain = Some(number(value()?)?),
            "--rounds" => options.rounds = Some(number(value()?)? as usize),
            "--hold" => options.hold = number(value()?)? as u64,
            "--leave-out" => options.unseen = true,
            "--dump" => options.dump = Some(value()?.into()),
            word if options.command.is_empty() && !word.starts_with('-') => options.command = word.to_owned(),
            other => return Err(format!("{other}?\n{USAGE}")),
        }
    }
    if options.heads.is_empty() {
        options.heads = Head::ALL.to_vec();
    }
    Ok(options)
}

fn run() -> Result<(), String> {
    let options = options()?;
    match options.command.as_str() {
        "all" => {
            for head in &options.heads {
                train(&options, *head)?;
            }
            if options.heads.len() == Head::ALL.len() {
                others(&options)?;
            }
            Ok(())
        }
        "eval" => options.heads.iter().try_for_each(|head| evaluate(&options, *head)),
        _ => Err(USAGE.to_owned()),
    }
}

/// The models that have features of their own.
fn others(options: &Options) -> Result<(), String> {
    code::train(&options.data, &options.out.join("code.bin"), 1).map_err(|error| error.to_string())?;
    urls::train(&options.data, &options.out.join("urls.bin"), options.seed)
}

fn file(options: &Options, head: Head) -> PathBuf {
    options.out.join(format!("{}.bin", head.name()))
}

fn train(options: &Options, head: Head) -> Result<(), String> {
    let mut rows = data::load(options.data.as_path(), options.own.as_path(), head, options.seed)?;
    data::hold(&mut rows, options.hold);
    let texts = texts::prepare(rows, head, options.seed);
    let model = fit::train(&texts, head, options);
    let path = file(options, head);
    std::fs::write(&path, model.encode()).map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("wrote {}", path.display());
    report::tables(&texts, head, &model, options.dump.as_deref())?;
    if options.unseen {
        report::leave_out(&texts, head, options);
    }
    Ok(())
}

fn evaluate(options: &Options, head: Head) -> Result<(), String> {
    let mut rows = data::load(options.data.as_path(), options.own.as_path(), head, options.seed)?;
    data::hold(&mut rows, options.hold);
    let texts = texts::prepare(rows, head, options.seed);
    let path = file(options, head);
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let model = Model::decode(&bytes).map_err(|error| error.to_string())?;
    report::tables(&texts, head, &model, options.dump.as_deref())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
