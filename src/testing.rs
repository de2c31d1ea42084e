//! The parts of the program that its tests, benches and fuzz targets use, at their paths in the source.
//! Nothing here is stable.
// Each item is documented where it stands.
#![allow(missing_docs)]

pub mod base {
    pub use crate::base::clock;
    pub mod name {
        pub use crate::base::name::Name;
    }
    pub mod random {
        pub use crate::base::random::Random;
    }
    pub mod secret {
        pub use crate::base::secret::Secret;
    }
}

pub mod cli {
    pub mod replica {
        pub use crate::cli::replica::Fleet;
    }
}

pub mod control {
    pub mod resolve {
        pub use crate::control::resolve::Resolver;
    }
}

pub mod decide {
    pub use crate::decide::{
        Draw, Keeps, Live, Outcome, Placement, Request, decide, next_after_failure, successor,
    };
    pub mod candidates {
        pub use crate::decide::candidates::{Candidates, Tier, Tried};
    }
    pub mod cookie_update {
        pub use crate::decide::cookie_update::{CookieWrite, Shown, cookie_update, wrote};
    }
    pub mod explanation {
        pub use crate::decide::explanation::{AssumedState, Choice, Explained, Forwarded, explain};
    }
    pub mod verdict {
        pub use crate::decide::verdict::{GroupVerdict, Verdict};
    }
}

pub mod http1 {
    pub use crate::http1::{decode, encode, facts, fields, name, request, response};
}

pub mod model {
    pub mod forward {
        pub use crate::model::forward::Forward;
    }
    pub mod in_flight {
        pub use crate::model::in_flight::InFlight;
    }
    pub mod live {
        pub use crate::model::live::{Availability, Drain, Health, TargetState};
    }
    pub mod published {
        pub use crate::model::published::Published;
    }
    pub mod snapshot {
        pub use crate::model::snapshot::{Group, Resolutions, Snapshot, Target};
    }
    pub mod target_registry {
        pub use crate::model::target_registry::TargetRegistry;
    }
}

pub mod net {
    pub mod http1 {
        pub use crate::net::http1::{Answered, Connection, Request, Waiting};
    }
    pub mod pool {
        pub use crate::net::pool::{ConnId, Pool};
    }
    pub mod target_stream {
        pub use crate::net::target_stream::TargetStream;
    }
}

pub mod observe {
    pub mod access_log {
        pub use crate::observe::access_log::AccessLog;
    }
    pub mod counters {
        pub use crate::observe::counters::Counters;
    }
}

pub mod policy {
    pub mod affinity {
        pub use crate::policy::affinity::{Lifetime, SameSite, claim, cookie};
        pub mod keys {
            pub use crate::policy::affinity::keys::{Key, Keyring};
        }
        pub mod token {
            pub use crate::policy::affinity::token::{
                Contents, GroupKey, Kind, MAX_PINS, Pin, Seed, TargetKey,
            };
        }
    }
    pub mod balance {
        pub mod round {
            pub use crate::policy::balance::round::Sequence;
        }
        pub mod weight_fraction {
            pub use crate::policy::balance::weight_fraction::WeightFraction;
        }
    }
    pub mod headers {
        pub use crate::policy::headers::{connection_auth, hop_by_hop, shared_cache};
        pub mod response {
            pub use crate::policy::headers::response::{Origin, ResponseFields, ServerField};
        }
    }
    pub mod health {
        pub use crate::policy::health::progress;
    }
    pub mod proxy_protocol {
        pub use crate::policy::proxy_protocol::ProxyFault;
    }
    pub mod routing {
        pub mod conditions {
            pub use crate::policy::routing::conditions::Subject;
        }
    }
    pub mod tls {
        pub mod fault {
            pub use crate::policy::tls::fault::HandshakeFault;
        }
    }
}

pub mod proxy {
    pub mod live_view {
        pub use crate::proxy::live_view::LiveView;
    }
}

pub mod worker {
    pub use crate::worker::*;
}
