// Checks a dashboard against the types of @grafana/schema: node grafana.js <node_modules> <dashboard.json>
// Every value must fit its type, and every property must be one that the type has. Panel options and custom field options are
// checked against the types of their kind of panel.
"use strict";
const fs = require("fs");
const path = require("path");

const [modules, file] = process.argv.slice(2);
const ts = require(path.join(path.resolve(modules), "typescript"));
const types = path.join(path.resolve(modules), "@grafana/schema/dist/types");
const kind = (name) => path.join(types, `raw/composable/${name}/panelcfg/x/types.gen.d.ts`);
const sources = {
  dashboard: path.join(types, "raw/dashboard/x/types.gen.d.ts"),
  common: path.join(types, "common/common.gen.d.ts"),
  timeseries: kind("timeseries"),
  stat: kind("stat"),
  table: kind("table"),
};
const program = ts.createProgram(Object.values(sources), { strict: true, skipLibCheck: true, moduleResolution: ts.ModuleResolutionKind.Bundler, module: ts.ModuleKind.ESNext });
const checker = program.getTypeChecker();
const problems = [];
let checked = 0;

// Returns the type that a module exports under a name.
function exported(source, name) {
  const node = program.getSourceFile(sources[source]);
  if (!node) throw new Error(`no types at ${sources[source]}`);
  const symbol = checker.getExportsOfModule(checker.getSymbolAtLocation(node)).find((s) => s.name === name);
  if (!symbol) throw new Error(`${source} has no type ${name}`);
  const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  return checker.getDeclaredTypeOfSymbol(target);
}

// Returns the problems of a value, the fewest of all members of a union.
function fit(value, type, at) {
  checked += 1;
  const is = (flag) => (type.flags & flag) !== 0;
  if (is(ts.TypeFlags.Any | ts.TypeFlags.Unknown)) return [];
  if (type.isUnion()) {
    const optional = ts.TypeFlags.Undefined | ts.TypeFlags.Null;
    const members = type.types.filter((member) => value === null || (member.flags & optional) === 0);
    const tried = members.map((member) => fit(value, member, at));
    return tried.reduce((best, one) => (one.length < best.length ? one : best));
  }
  const wrong = [`${at}: ${JSON.stringify(value)} is no ${checker.typeToString(type)}`];
  if (type.isStringLiteral() || type.isNumberLiteral()) return value === type.value ? [] : wrong;
  if (is(ts.TypeFlags.BooleanLiteral)) return String(value) === checker.typeToString(type) ? [] : wrong;
  if (is(ts.TypeFlags.String)) return typeof value === "string" ? [] : wrong;
  if (is(ts.TypeFlags.Number)) return typeof value === "number" ? [] : wrong;
  if (is(ts.TypeFlags.Boolean)) return typeof value === "boolean" ? [] : wrong;
  if (is(ts.TypeFlags.Null)) return value === null ? [] : wrong;
  if (is(ts.TypeFlags.Undefined)) return wrong;
  if (checker.isArrayType(type)) {
    if (!Array.isArray(value)) return wrong;
    const [element] = checker.getTypeArguments(type);
    return value.flatMap((item, number) => fit(item, element, `${at}/${number}`));
  }
  if (value === null || typeof value !== "object" || Array.isArray(value)) return wrong;
  const found = [];
  const index = checker.getIndexTypeOfType(type, ts.IndexKind.String);
  const properties = new Map(checker.getPropertiesOfType(type).map((property) => [property.name, property]));
  for (const [name, item] of Object.entries(value)) {
    const property = properties.get(name);
    const expected = property ? checker.getTypeOfSymbol(property) : index;
    if (!expected) found.push(`${at}/${name}: ${checker.typeToString(type)} has no such property`);
    else found.push(...fit(item, expected, `${at}/${name}`));
  }
  for (const property of properties.values()) {
    const optional = property.flags & ts.SymbolFlags.Optional;
    if (!optional && !(property.name in value)) found.push(`${at}: no ${property.name}`);
  }
  return found;
}

const dashboard = JSON.parse(fs.readFileSync(file, "utf8"));
const whole = (value, type, at) => problems.push(...fit(value, type, at));
// Required in the type, but defaulted where a dashboard is imported.
const imported = (found) => found.filter((problem) => !/: no (enable|iconColor|hide|name)$/.test(problem));
problems.push(...imported(fit({ ...dashboard, panels: [] }, exported("dashboard", "Dashboard"), "")));
const custom = { timeseries: ["common", "GraphFieldConfig"], stat: null, table: ["common", "TableFieldOptions"] };
dashboard.panels.forEach((panel, number) => {
  const at = `/panels/${number}`;
  if (panel.type === "row") return whole(panel, exported("dashboard", "RowPanel"), at);
  whole(panel, exported("dashboard", "Panel"), at);
  whole(panel.options, exported(panel.type, "Options"), `${at}/options`);
  const defaults = panel.fieldConfig.defaults;
  if (defaults.custom) {
    const partial = fit(defaults.custom, exported(...custom[panel.type]), `${at}/fieldConfig/defaults/custom`);
    problems.push(...partial.filter((problem) => !/custom: no \w+$/.test(problem)));
  }
});
if (problems.length > 0) {
  console.error(problems.join("\n"));
  process.exit(1);
}
console.log(`${checked} values checked`);
