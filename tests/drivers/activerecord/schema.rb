# What ActiveRecord's schema dumper makes of the table.
require "active_record"
require "active_record/connection_adapters/postgresql_adapter"

mode, = ARGV

if mode == "declared"
  # In a Rails application: config/initializers/rbytea.rb.
  module Rbytea
    class Type < ActiveRecord::ConnectionAdapters::PostgreSQL::OID::Bytea
      def type = :rbytea
    end

    def initialize_type_map(map = type_map)
      map.register_type("rbytea", Type.new)
      super
    end
  end
  ActiveRecord::ConnectionAdapters::PostgreSQLAdapter.prepend(Rbytea)
  ActiveRecord::ConnectionAdapters::PostgreSQLAdapter::NATIVE_DATABASE_TYPES[:rbytea] = { name: "rbytea" }
  ActiveRecord::ConnectionAdapters::PostgreSQL::TableDefinition.send(:define_column_methods, :rbytea)
end

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], database: ENV["PGDATABASE"]
)
dump = StringIO.new
ActiveRecord::SchemaDumper.dump(ActiveRecord::Base.connection, dump)
puts dump.string

if mode == "declared"
  class Document < ActiveRecord::Base; end
  document = Document.create!(note: "new", content: "\\101\0")
  puts "content #{Document.find(document.id).content.inspect}"
  ActiveRecord::Schema.verbose = false
  ActiveRecord::Base.connection.drop_table("documents")
  eval(dump.string)
  puts "loaded #{ActiveRecord::Base.connection.columns("documents").last.sql_type}"
end
