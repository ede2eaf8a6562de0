//! The flags that choose instances.

use clap::Args;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::filter::Filter;

use crate::inventory::Selection;

/// Which instances. Several conditions must all hold; without any, all of the inventory.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which instances")]
pub(super) struct SelectArgs {
    /// Those that fulfil an expression over id, region, zone, app, cluster, group and tags.<name>,
    /// such as 'app == "cassandra" && region in ["us-east-1"]'.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// These instances.
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    on: Vec<InstanceId>,
    /// Those in these regions.
    #[arg(long, value_name = "REGION,…", value_delimiter = ',')]
    region: Vec<String>,
    /// Those in these zones.
    #[arg(long, value_name = "ZONE,…", value_delimiter = ',')]
    zone: Vec<String>,
}

impl SelectArgs {
    /// These instances.
    pub(super) fn these(on: Vec<InstanceId>) -> SelectArgs {
        SelectArgs { on, ..SelectArgs::default() }
    }

    pub(super) fn selection(&self) -> Selection {
        let SelectArgs { filter, on, region, zone } = self.clone();
        Selection { filter, ids: on, regions: region, zones: zone }
    }
}
