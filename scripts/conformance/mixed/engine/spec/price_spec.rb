RSpec.describe "prices" do
  [1, 10, 100].each do |cents|
    it("of #{cents} cents are even or odd") { expect(cents.even? || cents.odd?).to be(true) }
  end
end
