// Files in a table, with node-postgres.
const { createHash } = require("crypto");
const { readFileSync, readdirSync } = require("fs");
const { Client } = require("pg");

const [table, directory, mode] = process.argv.slice(2);
const files = readdirSync(directory).sort();
const content = (file) => readFileSync(`${directory}/${file}`);
const client = new Client({ binary: mode === "binary" });

let names = new Map();
function run(text, values = []) {
  if (mode !== "prepared") return client.query(text, values);
  if (!names.has(text)) names.set(text, `s${names.size}`);
  return client.query({ name: names.get(text), text, values });
}

function bytesOf(value) {
  if (value === null) return "null";
  return `${value.constructor.name} ${value.length} ${createHash("sha256").update(value).digest("hex")}`;
}

async function show() {
  for (const row of (await run(`SELECT name, note, content FROM ${table} ORDER BY name`)).rows)
    console.log("row", row.name, row.note, bytesOf(row.content));
}

async function main() {
  await client.connect();
  const insert = `INSERT INTO ${table} (name, note, content) VALUES ($1, $2, $3)`;
  for (const file of files) await run(insert, [file, "new", content(file)]);
  await run(insert, ["null", "new", null]);
  await show();
  console.log("type", (await run(`SELECT content FROM ${table}`)).fields[0].dataTypeID);

  console.log("found", (await run(`SELECT name FROM ${table} WHERE content = $1`, [content(files[0])])).rows[0].name);
  await run(`UPDATE ${table} SET note = 'changed'`);
  for (const row of (await run(`SELECT name, content FROM ${table} ORDER BY name`)).rows)
    await run(insert, ["copy-of-" + row.name, "copied", row.content]);
  const deleted = await run(`DELETE FROM ${table} WHERE name = 'empty' RETURNING content`);
  console.log("deleted", bytesOf(deleted.rows[0].content));
  await show();
  await client.end();
}

main();
