//! The command line. Flags meant for criterion's benches are ignored, because `cargo bench --
//! --quick` passes the same arguments to every bench.

/// The amount and the selection of measurements.
pub(crate) struct Options {
    pub(crate) quick: bool,
    /// Runs of each row, if not the default.
    pub(crate) runs_of_each: Option<usize>,
    /// Only scenarios whose name contains this.
    pub(crate) filter: Option<String>,
    /// Only these rows; all if empty.
    pub(crate) only: Vec<String>,
}

impl Options {
    /// `None` if this is not a bench run: `cargo test --all-targets` starts benches without
    /// `--bench`, and a listing must not measure.
    pub(crate) fn from_arguments(arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { quick: false, runs_of_each: None, filter: None, only: Vec::new() };
        let mut is_bench = false;
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--quick" => options.quick = true,
                "--list" | "--test" => return None,
                "--runs" => {
                    options.runs_of_each = arguments.next().and_then(|count| count.parse().ok());
                }
                "--only" => {
                    let rows = arguments.next().unwrap_or_default();
                    options.only = rows.split(',').map(str::to_owned).collect();
                }
                flag if flag.starts_with('-') => {
                    if takes_a_value(flag) {
                        arguments.next();
                    }
                }
                filter => options.filter = Some(filter.to_owned()),
            }
        }
        is_bench.then_some(options)
    }

    pub(crate) fn runs(&self, scenario: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| scenario.contains(filter))
    }

    pub(crate) fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == row)
    }
}

/// True for criterion's flags whose value is the next argument; otherwise that value would be taken
/// for a filter.
fn takes_a_value(flag: &str) -> bool {
    const FLAGS: [&str; 17] = [
        "-c",
        "--color",
        "--colour",
        "-s",
        "--save-baseline",
        "-b",
        "--baseline",
        "--baseline-lenient",
        "--load-baseline",
        "--format",
        "--sample-size",
        "--warm-up-time",
        "--measurement-time",
        "--nresamples",
        "--noise-threshold",
        "--profile-time",
        "--output-format",
    ];
    FLAGS.contains(&flag)
}
