RSpec.describe "a basket" do
  subject(:basket) { { apple: 2, pear: 1 } }

  it("counts what is in it") { expect(basket.values.sum).to eq(3) }
  it("has no price") { expect(basket).to include(:price) }
  it "is delivered", skip: "there is no van" do
    raise
  end
  it "is wrapped" do
    pending "paper is out"
    expect(basket).to include(:paper)
  end
end
