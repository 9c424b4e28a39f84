// What TypeORM's synchronize wants to change.
const { DataSource, EntitySchema } = require("typeorm");

const [mode] = process.argv.slice(2);
const declared = mode === "declared";
const Document = new EntitySchema({
  name: "Document",
  tableName: "documents",
  columns: {
    id: { type: "int", primary: true, generated: true },
    note: { type: "text" },
    content: { type: declared ? "rbytea" : "bytea", nullable: true },
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
if (declared) source.driver.supportedDataTypes.push("rbytea");

async function main() {
  await source.initialize();
  for (const query of (await source.driver.createSchemaBuilder().log()).upQueries) console.log("wants", query.query);
  if (declared) {
    await source.synchronize();
    const documents = source.getRepository(Document);
    const { id } = await documents.save({ note: "new", content: Buffer.from("\\101\0") });
    console.log("content", (await documents.findOneBy({ id })).content);
  }
  await source.destroy();
}

main();
