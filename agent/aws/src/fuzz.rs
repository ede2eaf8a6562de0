//! Doors for the fuzz targets to answers of AWS.

use crate::ec2::{Ec2Instance, answer};
use crate::instance::{self, InstanceMetadata};

/// Reads a page of `DescribeInstances`; returns the instances and the token of the next page.
pub fn ec2_page(body: &[u8]) -> Result<(Vec<Ec2Instance>, Option<String>), String> {
    answer::page(body).map(|page| (page.instances, page.next))
}

/// Reads code and message of an error of EC2.
pub fn ec2_error(body: &[u8]) -> (String, String) {
    answer::error(body)
}

/// Reads an identity document of the instance metadata service.
pub fn identity_document(document: &str) -> Result<InstanceMetadata, String> {
    instance::parse_document(document).map_err(|error| error.to_string())
}
