// Files in a table, with postgres.js.
const { createHash } = require("crypto");
const { readFileSync, readdirSync } = require("fs");
const postgres = require("postgres");

const [table, directory, mode] = process.argv.slice(2);
const files = readdirSync(directory).sort();
const content = (file) => readFileSync(`${directory}/${file}`);
const sql = postgres({ prepare: mode === "prepared", max: 1 });

function bytesOf(value) {
  if (value === null) return "null";
  return `${value.constructor.name} ${value.length} ${createHash("sha256").update(value).digest("hex")}`;
}

async function show() {
  for (const row of await sql`SELECT name, note, content FROM ${sql(table)} ORDER BY name`)
    console.log("row", row.name, row.note, bytesOf(row.content));
}

async function main() {
  for (const file of files)
    await sql`INSERT INTO ${sql(table)} ${sql({ name: file, note: "new", content: content(file) })}`;
  await sql`INSERT INTO ${sql(table)} ${sql({ name: "null", note: "new", content: null })}`;
  await show();
  console.log("type", (await sql`SELECT content FROM ${sql(table)}`).columns[0].type);

  console.log("found", (await sql`SELECT name FROM ${sql(table)} WHERE content = ${content(files[0])}`)[0].name);
  await sql`UPDATE ${sql(table)} SET note = 'changed'`;
  for (const row of await sql`SELECT name, content FROM ${sql(table)} ORDER BY name`)
    await sql`INSERT INTO ${sql(table)} ${sql({ name: "copy-of-" + row.name, note: "copied", content: row.content })}`;
  const deleted = await sql`DELETE FROM ${sql(table)} WHERE name = 'empty' RETURNING content`;
  console.log("deleted", bytesOf(deleted[0].content));
  await show();
  await sql.end();
}

main();
