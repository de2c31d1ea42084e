//! A claim: what the cookies of one request say to one group at one moment.
