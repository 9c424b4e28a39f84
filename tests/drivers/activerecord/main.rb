# Files in a table, with ActiveRecord.
require "active_record"
require "digest"

table, directory, mode = ARGV
files = Dir.children(directory).sort
contents = files.to_h { |file| [file, File.binread("#{directory}/#{file}")] }

ActiveRecord::Base.establish_connection(
  adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], database: ENV["PGDATABASE"],
  prepared_statements: mode != "unprepared"
)

class Document < ActiveRecord::Base
  self.partial_writes = false # save writes all columns
end
Document.table_name = table
# ActiveRecord takes the types of columns from the catalog.
Document.attribute :content, :binary unless mode == "undeclared"

def bytes_of(content)
  content.nil? ? "null" : "#{content.class} #{content.bytesize} #{Digest::SHA256.hexdigest(content)}"
end

def show
  Document.order(:name).each { |document| puts "row #{document.name} #{document.note} #{bytes_of(document.content)}" }
end

contents.each { |file, content| Document.create!(name: file, note: "new", content: content) }
Document.create!(name: "null", note: "new", content: nil)
show

puts "found #{Document.find_by!(content: contents.values.first).name}"
Document.order(:name).to_a.each do |document|
  document.update!(note: "changed")
  Document.create!(name: "copy-of-#{document.name}", note: "copied", content: document.content)
end
empty = Document.find_by!(name: "empty")
puts "deleted #{bytes_of(empty.content)}"
empty.destroy!
show
