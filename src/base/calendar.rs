//! The civil calendar, in UTC (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").

const DAY: i64 = 86_400;

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    /// The year, Gregorian.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

impl Civil {
    /// The date of a second since 1970-01-01, or before it.
    pub(crate) fn of(unix: i64) -> Self {
        let (days, second) = (unix.div_euclid(DAY) + 719_468, unix.rem_euclid(DAY));
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // The computation begins the year in March, so that the leap day is its last day.
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            hour: second / 3_600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }
}

/// The number of days in a month from 1 to 12, or 0.
pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => days_since_1970(year, 3, 1) - days_since_1970(year, 2, 1),
        _ => 0,
    }
}

/// The number of days from 1970-01-01 to this date, negative before it.
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_next_to_leap_days_match_their_day_numbers() {
        for (unix, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (951_782_400, (2000, 2, 29)),
            (4_107_542_399, (2100, 2, 28)),
            (4_107_542_400, (2100, 3, 1)),
        ] {
            let Civil { year, month, day, .. } = Civil::of(unix);
            assert_eq!((year, month, day), date);
        }
    }

    #[test]
    fn february_has_29_days_in_leap_years_alone() {
        for (year, days) in [(1_970, 28), (2_000, 29), (2_023, 28), (2_024, 29), (2_100, 28)] {
            assert_eq!(days_in_month(year, 2), days, "{year}");
        }
        assert_eq!((1..=12).map(|month| days_in_month(2_023, month)).sum::<i64>(), 365);
        assert_eq!([days_in_month(2_023, 0), days_in_month(2_023, 13)], [0, 0]);
    }

    proptest! {
        #[test]
        fn a_unix_second_survives_the_conversion_to_a_date_and_back(unix in -100_000_000_000i64..1_000_000_000_000) {
            let Civil { year, month, day, hour, minute, second } = Civil::of(unix);
            let days = days_since_1970(year, month, day);
            prop_assert_eq!(days * DAY + hour * 3_600 + minute * 60 + second, unix);
        }
    }
}
