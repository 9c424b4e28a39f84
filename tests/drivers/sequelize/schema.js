// What Sequelize's sync({ alter: true }) changes.
const { DataTypes, Sequelize } = require("sequelize");

const [mode] = process.argv.slice(2);
const declared = mode === "declared";
const { PGHOST, PGPORT, PGUSER, PGDATABASE } = process.env;
const logging = (sql) => sql.includes("ALTER") && console.log("does", sql.replace("Executing (default): ", ""));
const sequelize = new Sequelize(PGDATABASE, PGUSER, "", { dialect: "postgres", host: PGHOST, port: PGPORT, logging });
const Document = sequelize.define(
  "Document",
  { note: { type: DataTypes.TEXT, allowNull: false }, content: declared ? "RBYTEA" : DataTypes.BLOB },
  { tableName: "documents", timestamps: false },
);

async function main() {
  await Document.sync({ alter: true });
  const { id } = await Document.create({ note: "new", content: Buffer.from("\\101\0") });
  console.log("content", (await Document.findByPk(id)).content);
  await sequelize.close();
}

main();
