//! Jobs of Rundeck that are imported, as YAML or, after a `<`, as XML.

use bolt_client::fuzz::rundeck;

use super::import_ssm;
use crate::repository;

/// Jobs of YAML, each with one construct.
const YAML: [&str; 24] = [
    "sequence: {commands: [{exec: 'echo ${option.x}'}]}, options: [{name: x}]",
    "sequence: {commands: [{exec: '${unquotedoption.x}'}]}, options: [{name: x, required: true}]",
    "sequence: {commands: [{script: \"#!/bin/sh\\necho '@option.x@'\", args: '${option.x} \"a b\"'}]}, options: [{name: x}]",
    "sequence: {commands: [{scriptfile: /opt/x.sh, args: a, expandTokenInScriptFile: true}]}",
    "sequence: {commands: [{scripturl: 'https://example.com/x.sh'}]}",
    "sequence: {commands: [{script: x, scriptInterpreter: 'sudo -u app bash -c ${scriptfile}', interpreterArgsQuoted: true}]}",
    "sequence: {commands: [{script: x, scriptInterpreter: powershell, fileExtension: .ps1}]}",
    "sequence: {commands: [{jobref: {name: stop, group: web, nodeStep: true, args: '-x ${option.x}'}}]}",
    "sequence: {commands: [{type: com.example.step, nodeStep: true, configuration: {a: b}}]}",
    "sequence: {keepgoing: true, commands: [{exec: a, errorhandler: {exec: b, keepgoingOnSuccess: true}}, {exec: c}]}",
    "sequence: {strategy: ruleset, commands: [{exec: a}], pluginConfig: {WorkflowStrategy: {ruleset: {rules: '[*] run-in-sequence'}}}}",
    "sequence: {commands: [{exec: a, description: one, enabled: false, plugins: {LogFilter: [{type: mask}]}}]}",
    "sequence: {commands: [{exec: 'echo ${node.name} ${job.execid} ${globals.x} @node.hostname@ $RD_NODE_TAGS'}]}",
    "options: [{name: x, enforced: true, values: [a, b], value: a}], sequence: {commands: [{exec: 'ls ${option.x}'}]}",
    "options: [{name: x, enforced: true, values: 'a|b', valuesListDelimiter: '|'}], sequence: {commands: [{exec: ls}]}",
    "options: [{name: x, regex: '^[a-z]{1,8}$', required: true}], sequence: {commands: [{script: 'echo $((@option.x@))'}]}",
    "options: [{name: x, multivalued: true, delimiter: ',', value: 'a,b'}], sequence: {commands: [{exec: 'ls ${option.x}'}]}",
    "options: [{name: x, secure: true, valueExposed: true}], sequence: {commands: [{exec: 'mysql -p${option.x}'}]}",
    "options: [{name: x, secure: true, storagePath: keys/x}], sequence: {commands: [{script: 'echo $RD_OPTION_X'}]}",
    "options: [{name: x, type: file}, {name: y, valuesUrl: 'https://example.com'}, {name: z, isDate: true}], sequence: {commands: [{exec: ls}]}",
    "nodefilters: {filter: 'tags: web', dispatch: {threadcount: 2, keepgoing: true}}, sequence: {commands: [{exec: ls}]}",
    "schedule: {time: {hour: '*', minute: 0/15, seconds: '0'}, month: '*'}, scheduleEnabled: false, sequence: {commands: [{exec: ls}]}",
    "notification: {onfailure: {email: {recipients: a@example.com}}}, retry: {retry: 3, delay: 5s}, sequence: {commands: [{exec: ls}]}",
    "timeout: 1h 30m, loglimit: 10MB, multipleExecutions: true, executionEnabled: false, sequence: {commands: [{exec: ls}]}",
];

/// Parts of jobs of XML, each with one construct; a job has a sequence, and after it what follows the `|`.
const XML: [&str; 16] = [
    "<command><exec>echo ${option.x} &amp;&amp; echo</exec></command>|<context><options><option name='x'/></options></context>",
    "<command><script><![CDATA[#!/bin/bash\necho \"@option.x@\"]]></script><scriptargs>a 'b c'</scriptargs></command>|",
    "<command><script>x</script><scriptinterpreter argsquoted='true'>sudo su -c</scriptinterpreter></command>|",
    "<command><scriptfile>/opt/x.sh</scriptfile><expandTokenInScriptFile>true</expandTokenInScriptFile></command>|",
    "<command><scripturl>https://example.com/x.sh</scripturl></command>|",
    "<command><jobref name='stop' group='web'><arg line='-x y'/></jobref></command>|",
    "<command><node-step-plugin type='x'><configuration><entry key='a' value='b'/></configuration></node-step-plugin></command>|",
    "<command><exec>a</exec><errorhandler keepgoingOnSuccess='true'><script>b</script></errorhandler></command>|",
    "<command><exec>a</exec><description>one</description><plugins><LogFilter type='mask'/></plugins></command>|",
    "<command><exec>${option.x}</exec></command>|<context><options><option name='x' values='a,b' enforcedvalues='true' value='a'/></options></context>",
    "<command><exec>a</exec></command>|<context><options><option name='x' regex='[a-z]+' required='true'><description>d</description></option></options></context>",
    "<command><exec>a</exec></command>|<context><options><option name='x' secure='true' valueExposed='true' storagePath='keys/x'/></options></context>",
    "<command><exec>a</exec></command>|<nodefilters><include><tags>web</tags></include><exclude><name>x</name></exclude></nodefilters>",
    "<command><exec>a</exec></command>|<schedule><time hour='*' seconds='0' minute='0/15'/></schedule><timeout>30m</timeout>",
    "<command><exec>a</exec></command>|<notification><onfailure><email recipients='a@example.com'/></onfailure></notification>",
    "<command><exec>a</exec></command>|<dispatch><threadcount>2</threadcount><keepgoing>true</keepgoing></dispatch><logging limit='1MB'/>",
];

pub(super) fn run(data: &[u8]) {
    let name = if data.trim_ascii_start().starts_with(b"<") { "jobs.xml" } else { "jobs.yaml" };
    match rundeck(name, data) {
        Ok(imported) => import_ssm::check(&imported),
        Err(error) => assert!(error.len() <= 4096, "an error of {} bytes", error.len()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = repository::below("tests/fixtures/rundeck/shapes", &[".yaml", ".xml"]);
    seeds.retain(|seed| seed.len() <= 8192);
    seeds.extend(YAML.map(|job| format!("- {{name: j, {job}}}\n").into_bytes()));
    seeds.extend(XML.map(|parts| {
        let (commands, rest) = parts.split_once('|').unwrap_or((parts, ""));
        let sequence = format!("<sequence keepgoing='true' strategy='node-first'>{commands}</sequence>");
        format!("<joblist><job><name>j</name>{sequence}{rest}</job></joblist>\n").into_bytes()
    }));
    seeds
}
