//! Options that choose instances.

use clap::Args;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::filter::Filter;

use crate::inventory::{GatherOptions, IdPattern, Selection};

/// Options that choose instances. An instance must meet all of them; without any, all instances of the inventory are chosen.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which instances")]
pub(super) struct SelectArgs {
    /// Instances that meet an expression over id, region, zone, app, cluster, group and tags.<name> with ==, !=, =~ (regular
    /// expression), in, !, &&, || and parentheses, such as 'app == "cassandra" && region in ["us-east-1"]';
    /// see "Expressions" in client/README.md.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// Instances with these ids; * stands for any characters and ? for one: 'i-0a*'.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    on: Vec<IdPattern>,
    /// Instances in these regions.
    #[arg(long, value_name = "REGION,…", value_delimiter = ',')]
    region: Vec<String>,
    /// Instances in these zones.
    #[arg(long, value_name = "ZONE,…", value_delimiter = ',')]
    zone: Vec<String>,
    /// Go on when a source of the inventory fails; prints what is missing.
    #[arg(long)]
    partial: bool,
    /// Ask the sources of the inventory again, instead of using answers of the last seconds.
    #[arg(long)]
    refresh: bool,
}

/// [`SelectArgs`] for commands that act on instances: all of them are chosen only when the user says so.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct ExplicitSelectArgs {
    #[command(flatten)]
    pub(super) select: SelectArgs,
    /// All instances of the inventory. Not needed when the inventory has one instance.
    #[arg(long, help_heading = "Which instances", conflicts_with_all = ["filter", "on", "region", "zone"])]
    pub(super) everywhere: bool,
}

impl SelectArgs {
    /// Chooses these instances.
    pub(super) fn these(on: Vec<InstanceId>) -> SelectArgs {
        SelectArgs { on: on.into_iter().map(IdPattern::from).collect(), ..SelectArgs::default() }
    }

    /// True if no option was given.
    pub(super) fn is_empty(&self) -> bool {
        self.filter.is_none() && self.on.is_empty() && self.region.is_empty() && self.zone.is_empty()
    }

    /// Returns the conditions that these options set.
    pub(super) fn selection(&self) -> Selection {
        let SelectArgs { filter, on, region, zone, partial: _, refresh: _ } = self.clone();
        Selection { filter, ids: on, regions: region, zones: zone }
    }

    /// Returns how the sources of the inventory are asked.
    pub(super) fn gather_options(&self) -> GatherOptions {
        GatherOptions { partial: self.partial, refresh: self.refresh }
    }
}

impl ExplicitSelectArgs {
    /// True if no option was given.
    pub(super) fn is_empty(&self) -> bool {
        self.select.is_empty() && !self.everywhere
    }
}
