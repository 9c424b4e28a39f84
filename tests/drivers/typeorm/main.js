// Files in a table, with TypeORM.
const { createHash } = require("crypto");
const { readFileSync, readdirSync } = require("fs");
const { DataSource, EntitySchema } = require("typeorm");

const [table, directory] = process.argv.slice(2);
const files = readdirSync(directory).sort();
const content = (file) => readFileSync(`${directory}/${file}`);

const Document = new EntitySchema({
  name: "Document",
  tableName: table,
  columns: {
    id: { type: "int", primary: true, generated: true },
    name: { type: "text" },
    note: { type: "text" },
    content: { type: "bytea", nullable: true },
  },
});
const source = new DataSource({
  type: "postgres",
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  username: process.env.PGUSER,
  database: process.env.PGDATABASE,
  entities: [Document],
});

function bytesOf(value) {
  if (value === null) return "null";
  return `${value.constructor.name} ${value.length} ${createHash("sha256").update(value).digest("hex")}`;
}

async function show(documents) {
  for (const document of await documents.find({ order: { name: "ASC" } }))
    console.log("row", document.name, document.note, bytesOf(document.content));
}

async function main() {
  await source.initialize();
  const documents = source.getRepository(Document);
  for (const file of files) await documents.save({ name: file, note: "new", content: content(file) });
  await documents.save({ name: "null", note: "new", content: null });
  await show(documents);

  console.log("found", (await documents.findOneBy({ content: content(files[0]) })).name);
  for (const document of await documents.find({ order: { name: "ASC" } })) {
    document.note = "changed";
    await documents.save(document);
    await documents.save({ name: "copy-of-" + document.name, note: "copied", content: document.content });
  }
  const empty = await documents.findOneBy({ name: "empty" });
  console.log("deleted", bytesOf(empty.content));
  await documents.remove(empty);
  await show(documents);
  await source.destroy();
}

main();
