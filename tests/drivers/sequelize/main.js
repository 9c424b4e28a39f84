// Files in a table, with Sequelize.
const { createHash } = require("crypto");
const { readFileSync, readdirSync } = require("fs");
const { DataTypes, Sequelize } = require("sequelize");

const [table, directory] = process.argv.slice(2);
const files = readdirSync(directory).sort();
const content = (file) => readFileSync(`${directory}/${file}`);
const { PGHOST, PGPORT, PGUSER, PGDATABASE } = process.env;
const sequelize = new Sequelize(PGDATABASE, PGUSER, "", { dialect: "postgres", host: PGHOST, port: PGPORT, logging: false });
const Document = sequelize.define(
  "Document",
  {
    name: DataTypes.TEXT,
    note: DataTypes.TEXT,
    content: DataTypes.BLOB,
  },
  { tableName: table, timestamps: false },
);

function bytesOf(value) {
  if (value === null) return "null";
  return `${value.constructor.name} ${value.length} ${createHash("sha256").update(value).digest("hex")}`;
}

async function show() {
  for (const document of await Document.findAll({ order: ["name"] }))
    console.log("row", document.name, document.note, bytesOf(document.content));
}

async function main() {
  for (const file of files) await Document.create({ name: file, note: "new", content: content(file) });
  await Document.bulkCreate([{ name: "null", note: "new", content: null }]);
  await show();

  console.log("found", (await Document.findOne({ where: { content: content(files[0]) } })).name);
  for (const document of await Document.findAll({ order: ["name"] })) {
    document.note = "changed";
    await document.save({ fields: ["name", "note", "content"] });
    await Document.create({ name: "copy-of-" + document.name, note: "copied", content: document.content });
  }
  const empty = await Document.findOne({ where: { name: "empty" } });
  console.log("deleted", bytesOf(empty.content));
  await empty.destroy();
  await show();
  await sequelize.close();
}

main();
